use super::*;
use crate::node::events::What;
use crate::node::journal::SandboxEntry;
use crate::node::testing::{container, sandbox, word};

fn exit(status: u32) -> Exit {
    Exit { status, at: SystemTime::UNIX_EPOCH }
}

fn page(from: u64, events: Vec<(&str, Option<&str>, Happened)>) -> Page {
    let numbered = events.into_iter().zip(from..);
    let events: Vec<_> = numbered
        .map(|((id, exec, what), number)| Happening {
            number,
            container: Some(container(id)),
            exec: exec.map(|exec| exec.parse().unwrap()),
            pid: 7,
            what,
        })
        .collect();
    Page { next: from + events.len() as u64, events, lost: 0 }
}

fn created() -> Happened {
    Happened::Created { bundle: "/bundle".into() }
}

fn words(news: &News) -> Vec<String> {
    news.told.iter().map(|(_, what)| word(what)).collect()
}

fn mirror() -> Mirror {
    Mirror::new(SandboxEntry::new(sandbox("pod"), false))
}

#[test]
fn whoever_brings_an_event_it_is_told_once() {
    let mut mirror = mirror();
    let events = || vec![("web", None, created()), ("web", None, Happened::Started)];
    assert_eq!(words(&mirror.take(page(1, events()))), ["created", "started"]);
    assert!(mirror.take(page(1, events())).told.is_empty());
    let late = page(2, vec![("web", None, Happened::Started), ("web", None, Happened::Paused)]);
    assert_eq!(words(&mirror.take(late)), ["paused"]);
    assert_eq!(mirror.entry.cursor, 4);
}

#[test]
fn execs_whose_exits_were_lost_end_before_their_init() {
    let mut mirror = mirror();
    mirror.take(page(
        1,
        vec![
            ("web", None, created()),
            ("web", None, Happened::Started),
            ("web", Some("shell"), Happened::ExecAdded),
            ("web", Some("shell"), Happened::ExecStarted),
            ("web", Some("idle"), Happened::ExecAdded),
        ],
    ));
    let news = mirror.take(page(6, vec![("web", None, Happened::Exited(exit(3)))]));
    assert_eq!(words(&news), ["exec-exited 137", "exited 3"], "one that never ran has no exit");
    assert_eq!(news.ended, [container("web")]);
}

#[test]
fn the_end_of_a_sandbox_is_told_after_those_of_its_tasks_and_once() {
    let mut mirror = mirror();
    mirror.entry.standing = Standing::Ready;
    mirror.take(page(1, vec![("web", None, created()), ("web", None, Happened::Started)]));
    assert_eq!(words(&mirror.ended(exit(255), "it broke".into())), ["exited 137", "down 255"]);
    assert!(mirror.ended(exit(0), String::new()).told.is_empty());
    assert!(mirror.take(page(3, vec![("web", None, Happened::Exited(exit(0)))])).told.is_empty());
    assert_eq!(mirror.end_of(&container("web"), None).map(|exit| exit.status), Some(137));
}

#[test]
fn a_look_makes_good_for_events_that_were_lost() {
    let mut mirror = mirror();
    mirror.take(page(1, vec![("web", None, created())]));
    let lossy = Page { lost: 10, ..page(12, vec![("web", Some("new"), Happened::ExecStarted)]) };
    assert!(mirror.take(lossy).look);
    let report = |exec: Option<&str>, phase, status: Option<u32>| ProcessReport {
        exec: exec.map(|exec| exec.parse().unwrap()),
        pid: 9,
        phase,
        exit: status.map(exit),
        io: Io::default(),
        command: Default::default(),
    };
    let reports = [report(None, Phase::Running, None), report(Some("new"), Phase::Stopped, Some(4))];
    let news = mirror.look(&container("web"), &reports);
    assert_eq!(words(&news), ["started", "exec-added", "exec-started", "exec-exited 4"]);
    assert!(mirror.look(&container("web"), &reports).told.is_empty());
}

#[test]
fn who_waits_hears_of_an_end_that_was_forgotten_meanwhile() {
    let mut mirror = mirror();
    let all = vec![
        ("web", None, created()),
        ("web", None, Happened::Started),
        ("web", None, Happened::Exited(exit(5))),
        ("web", None, Happened::Deleted(exit(5))),
    ];
    let news = mirror.take(page(1, all));
    assert!(matches!(news.told.last(), Some((_, What::Deleted { .. }))));
    assert_eq!(news.gone, [container("web")]);
    assert_eq!(mirror.end_of(&container("web"), None), Some(exit(5)));
}
