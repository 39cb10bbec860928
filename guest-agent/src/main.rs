//! `theca-agent`: pid 1 of a guest, and, started anew by itself, the set-up process of each container.

fn main() {
    theca_agent::setup::run_if_asked();
    if std::process::id() != 1 {
        eprintln!("theca-agent: it is the init of a Theca guest and does nothing elsewhere");
        std::process::exit(1);
    }
    theca_agent::init::run();
}
