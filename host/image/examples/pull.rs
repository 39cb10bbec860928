//! `cargo run -p theca-image --features registry --example pull -- ROOT NAME [--insecure] [--ca FILE] [--auth FILE]`

use std::path::Path;

use theca_image::{Progress, PullOptions, Step, Store};

/// One line whenever a step is through.
struct Lines;

impl Progress for Lines {
    fn advanced(&self, step: Step, done: u64, total: Option<u64>) {
        if total == Some(done) {
            println!("{step:?}: {done} bytes");
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(root), Some(name)) = (words.next(), words.next()) else {
        return Err("usage: pull ROOT NAME".into());
    };
    let mut options = PullOptions::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--insecure" => options.tls_verify = Some(false),
            "--ca" => options.ca_file = words.next().map(Into::into),
            "--auth" => options.auth_file = words.next().map(Into::into),
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let image = runtime.block_on(Store::open(Path::new(&root))?.pull(&name.parse()?, &options, &Lines))?;
    println!("{} {}", image.short_id(), image.erofs.display());
    Ok(())
}
