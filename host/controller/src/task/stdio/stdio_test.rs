//! Streams of a fake guest, copied to and from real FIFOs.

use std::future::{pending, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::log::{CriLog, LogOptions};
use super::*;
use crate::testing::fifo;
use crate::testing::guest::FakeGuest;

struct Host {
    folder: tempfile::TempDir,
    guest: FakeGuest,
    vsock: Vsock,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (guest, vsock) = FakeGuest::listen(folder.path());
        Self { folder, guest, vsock }
    }

    fn fifo(&self, name: &str) -> PathBuf {
        fifo(self.folder.path(), name)
    }

    fn log(&self) -> (SharedLog, PathBuf) {
        let path = self.folder.path().join("task.log");
        let log = CriLog::open(LogOptions { path: path.clone(), max_bytes: log::DEFAULT_MAX_BYTES }).unwrap();
        (SharedLog::new(log), path)
    }

    /// The guest's end of the stream that stdio calls by `pick`.
    async fn stream(&mut self, stdio: &Stdio, pick: fn(StreamIds) -> Option<String>) -> UnixStream {
        self.guest.stream(&pick(stdio.ids()).unwrap()).await
    }
}

fn reader(path: &std::path::Path) -> pipe::Receiver {
    pipe::OpenOptions::new().open_receiver(path).unwrap()
}

async fn read_all(mut fifo: pipe::Receiver) -> String {
    let mut text = String::new();
    fifo.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn output_is_in_fifo_and_log_when_the_drain_is_finished() {
    let mut host = Host::new();
    let path = host.fifo("stdout");
    let fifo = reader(&path);
    let (log, log_path) = host.log();
    let request = IoRequest { stdout: Some(Target::Fifo(path)), ..IoRequest::default() };
    let (stdio, drain) = Opened::open(&request, Some(log), &Remotes::default()).unwrap().connect(&host.vsock);

    host.stream(&stdio, |ids| ids.stdout).await.write_all(b"hello\n").await.unwrap();
    host.stream(&stdio, |ids| ids.stderr).await.write_all(b"oops\n").await.unwrap();
    drain.finish(ready(())).await;

    assert_eq!(read_all(fifo).await, "hello\n");
    let log = std::fs::read_to_string(log_path).unwrap();
    assert!(log.contains(" stdout F hello\n") && log.contains(" stderr F oops\n"), "{log}");
}

#[tokio::test]
async fn output_held_open_by_a_survivor_does_not_hold_up_the_exit() {
    let mut host = Host::new();
    let path = host.fifo("stdout");
    let fifo = reader(&path);
    let request = IoRequest { stdout: Some(Target::Fifo(path)), ..IoRequest::default() };
    let (stdio, drain) = Opened::open(&request, None, &Remotes::default()).unwrap().connect(&host.vsock);
    let mut survivor = host.stream(&stdio, |ids| ids.stdout).await;
    survivor.write_all(b"last words").await.unwrap();

    let before = Instant::now();
    drain.finish(ready(())).await;
    assert!((Duration::from_secs(2)..Duration::from_secs(10)).contains(&before.elapsed()));
    assert_eq!(read_all(fifo).await, "last words");
}

#[tokio::test]
async fn a_slow_reader_holds_the_process_back_and_loses_nothing() {
    let mut host = Host::new();
    let path = host.fifo("stdout");
    let mut fifo = reader(&path);
    let request = IoRequest { stdout: Some(Target::Fifo(path)), ..IoRequest::default() };
    let (stdio, drain) = Opened::open(&request, None, &Remotes::default()).unwrap().connect(&host.vsock);
    let mut guest = host.stream(&stdio, |ids| ids.stdout).await;
    let block = vec![b'x'; 1 << 20];
    let writes = async { while guest.write_all(&block).await.is_ok() {} };
    assert!(timeout(Duration::from_millis(300), writes).await.is_err(), "written without a reader");

    drop(guest);
    let reading = tokio::spawn(async move {
        let mut total = 0;
        let mut buffer = vec![0; 65536];
        while let Ok(read @ 1..) = fifo.read(&mut buffer).await {
            total += read;
        }
        total
    });
    drain.finish(ready(())).await;
    assert!(reading.await.unwrap() >= 65536);
}

#[tokio::test]
async fn a_reader_that_was_there_and_has_left_holds_nothing_up() {
    let mut host = Host::new();
    let (path, later) = (host.fifo("stdout"), host.fifo("later"));
    let target = Some(Target::Fifo(path.clone()));
    let request = IoRequest { stdout: target, readers: Readers::AreThere, ..IoRequest::default() };
    assert!(Opened::open(&request, None, &Remotes::default()).is_err(), "nobody reads the FIFO");
    let first = reader(&path);
    let (log, log_path) = host.log();
    let (mut stdio, drain) =
        Opened::open(&request, Some(log), &Remotes::default()).unwrap().connect(&host.vsock);
    let mut guest = host.stream(&stdio, |ids| ids.stdout).await;

    // More than the FIFO and all that lies between take: the pump waits for the reader.
    let block = vec![b'x'; 1 << 20];
    let fill = timeout(Duration::from_millis(300), guest.write_all(&block)).await;
    assert!(fill.is_err(), "written without a reader");
    drop(first);
    timeout(Duration::from_secs(10), guest.write_all(&block)).await.expect("it goes on").unwrap();

    let attached = reader(&later);
    stdio.attach(&AttachPaths { stdout: Some(later), ..AttachPaths::default() }).unwrap();
    let seen = tokio::spawn(read_all(attached));
    guest.write_all(b"\nshown\n").await.unwrap();
    drop(guest);
    drain.finish(ready(())).await;
    drop(stdio);
    assert!(seen.await.unwrap().ends_with("\nshown\n"));
    assert!(std::fs::read_to_string(log_path).unwrap().ends_with(" stdout F shown\n"));
}

/// Bounds that a test can wait out, far below what it gives a reader or a guest who are waited for.
const HASTE: Patience = Patience {
    lingering: Duration::from_millis(50),
    untold: Duration::from_secs(60),
    absent: Duration::from_millis(50),
    unwanted: Duration::from_millis(50),
};
const LONG: Duration = Duration::from_millis(600);
/// More than a FIFO and all that lies before it take.
const MUCH: usize = 3 << 20;

/// Much output of a process that has ended, whose reader has read nothing of it yet.
async fn unread(host: &mut Host, readers: Readers) -> (Stdio, Drain, pipe::Receiver) {
    let path = host.fifo("stdout");
    let fifo = reader(&path);
    let request = IoRequest { stdout: Some(Target::Fifo(path)), readers, ..IoRequest::default() };
    let opened = Opened::open(&request, None, &Remotes::default()).unwrap();
    let (stdio, drain) = opened.connect_with(&host.vsock, HASTE);
    let mut guest = host.stream(&stdio, |ids| ids.stdout).await;
    tokio::spawn(async move { guest.write_all(&vec![b'x'; MUCH]).await });
    (stdio, drain, fifo)
}

#[tokio::test]
async fn a_reader_that_is_there_may_pause_for_as_long_as_it_likes_and_loses_nothing() {
    let mut host = Host::new();
    let (_stdio, drain, fifo) = unread(&mut host, Readers::AreThere).await;
    let reading = tokio::spawn(async move {
        tokio::time::sleep(LONG).await;
        read_all(fifo).await.len()
    });
    drain.finish(ready(())).await;
    assert_eq!(reading.await.unwrap(), MUCH);
}

#[tokio::test]
async fn a_reader_that_leaves_does_not_hold_up_the_exit() {
    let mut host = Host::new();
    let (_stdio, drain, fifo) = unread(&mut host, Readers::AreThere).await;
    let finished = drain.finish(ready(()));
    tokio::pin!(finished);
    assert!(timeout(LONG, &mut finished).await.is_err());
    drop(fifo);
    timeout(Duration::from_secs(10), finished).await.unwrap();
}

#[tokio::test]
async fn the_exit_of_what_was_killed_does_not_wait_for_a_reader_that_does_not_read() {
    let mut host = Host::new();
    let (stdio, drain, _fifo) = unread(&mut host, Readers::AreThere).await;
    let finished = drain.finish(ready(()));
    tokio::pin!(finished);
    assert!(timeout(LONG, &mut finished).await.is_err());
    stdio.unwanted();
    timeout(Duration::from_secs(10), finished).await.unwrap();
}

#[tokio::test]
async fn readers_that_come_and_go_and_stay_away_do_not_hold_up_the_exit() {
    let mut host = Host::new();
    let (_stdio, drain, fifo) = unread(&mut host, Readers::ComeAndGo).await;
    drop(fifo);
    timeout(Duration::from_secs(10), drain.finish(ready(()))).await.unwrap();
}

#[tokio::test]
async fn a_guest_that_gets_no_processor_may_send_its_last_words_late() {
    let mut host = Host::new();
    let path = host.fifo("stdout");
    let fifo = reader(&path);
    let request = IoRequest { stdout: Some(Target::Fifo(path)), ..IoRequest::default() };
    let opened = Opened::open(&request, None, &Remotes::default()).unwrap();
    let (stdio, drain) = opened.connect_with(&host.vsock, HASTE);
    let mut guest = host.stream(&stdio, |ids| ids.stdout).await;
    let finished = tokio::spawn(drain.finish(pending()));
    tokio::time::sleep(LONG).await;
    guest.write_all(b"late").await.unwrap();
    drop(guest);
    finished.await.unwrap();
    assert_eq!(read_all(fifo).await, "late");
}

/// Something outlives its process and writes a `block` after each `pause`. `told`: the guest can tell it from the process.
async fn chatter(pause: Duration, block: usize, told: bool) {
    let mut host = Host::new();
    let path = host.fifo("stdout");
    let reading = tokio::spawn(read_all(reader(&path)));
    let request = IoRequest { stdout: Some(Target::Fifo(path)), ..IoRequest::default() };
    let opened = Opened::open(&request, None, &Remotes::default()).unwrap();
    let soon = Patience { lingering: LONG, untold: LONG, ..PATIENCE };
    let (stdio, drain) = opened.connect_with(&host.vsock, soon);
    let mut orphan = host.stream(&stdio, |ids| ids.stdout).await;
    let writing = tokio::spawn(async move {
        while orphan.write_all(&vec![b'x'; block]).await.is_ok() {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    });
    let written = async { if told { ready(()).await } else { pending().await } };
    timeout(Duration::from_secs(20), drain.finish(written)).await.expect("it holds up the exit");
    writing.await.unwrap();
    assert!(!reading.await.unwrap().is_empty());
}

#[tokio::test]
async fn a_survivor_that_goes_on_writing_does_not_hold_up_the_exit() {
    chatter(LONG / 30, 1, true).await;
    chatter(Duration::ZERO, 1 << 16, true).await;
    chatter(Duration::ZERO, 1 << 16, false).await;
}

#[tokio::test]
async fn readers_that_come_and_go_find_what_was_written_between() {
    let mut host = Host::new();
    let path = host.fifo("stdout");
    let request = IoRequest { stdout: Some(Target::Fifo(path.clone())), ..IoRequest::default() };
    let (stdio, drain) = Opened::open(&request, None, &Remotes::default()).unwrap().connect(&host.vsock);
    let mut guest = host.stream(&stdio, |ids| ids.stdout).await;
    drop(reader(&path));
    guest.write_all(b"between").await.unwrap();
    let mut next = reader(&path);
    let mut buffer = [0; 16];
    let read = timeout(Duration::from_secs(10), next.read(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..read], b"between");
    drop(guest);
    drain.finish(ready(())).await;
}

#[tokio::test]
async fn input_ends_when_it_was_closed_and_its_writers_have_gone() {
    let mut host = Host::new();
    let path = host.fifo("stdin");
    let request = IoRequest { stdin: Some(Target::Fifo(path.clone())), ..IoRequest::default() };
    let (mut stdio, _drain) = Opened::open(&request, None, &Remotes::default()).unwrap().connect(&host.vsock);
    let mut guest = host.stream(&stdio, |ids| ids.stdin).await;
    let mut buffer = [0; 16];

    for words in ["one", "two"] {
        let mut client = pipe::OpenOptions::new().open_sender(&path).unwrap();
        client.write_all(words.as_bytes()).await.unwrap();
        drop(client);
        let read = guest.read(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..read], words.as_bytes(), "a client that leaves does not end the input");
    }
    let mut last = pipe::OpenOptions::new().open_sender(&path).unwrap();
    stdio.close_input();
    last.write_all(b"three").await.unwrap();
    drop(last);
    let mut rest = String::new();
    guest.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "three");
}

#[tokio::test]
async fn an_attacher_sees_what_comes_from_then_on_and_can_type() {
    let mut host = Host::new();
    let (own_in, path, attached_in) =
        (host.fifo("stdin"), host.fifo("attached-out"), host.fifo("attached-in"));
    let request = IoRequest { stdin: Some(Target::Fifo(own_in)), ..IoRequest::default() };
    let (log, _) = host.log();
    let (mut stdio, _drain) =
        Opened::open(&request, Some(log), &Remotes::default()).unwrap().connect(&host.vsock);
    let mut output = host.stream(&stdio, |ids| ids.stdout).await;
    let mut input = host.stream(&stdio, |ids| ids.stdin).await;

    let paths = AttachPaths { stdin: Some(attached_in.clone()), stdout: Some(path.clone()), stderr: None };
    assert!(stdio.attach(&paths).is_err(), "nobody reads the FIFO");
    let mut fifo = reader(&path);
    stdio.attach(&paths).unwrap();
    // The pump takes attachers and output in any order; the attacher is in once this has come back.
    let mut client = pipe::OpenOptions::new().open_sender(&attached_in).unwrap();
    client.write_all(b"typed").await.unwrap();
    let mut buffer = [0; 16];
    assert_eq!(input.read(&mut buffer).await.unwrap(), 5);
    output.write_all(b"shown").await.unwrap();
    assert_eq!(fifo.read(&mut buffer).await.unwrap(), 5);
    assert_eq!(&buffer[..5], b"shown");
}

#[test]
fn kinds_of_output_that_are_not_supported_are_named() {
    assert_eq!(Target::parse("").unwrap(), None);
    assert_eq!(Target::parse("/run/fifo").unwrap(), Some(Target::Fifo("/run/fifo".into())));
    assert_eq!(Target::parse("file:///var/log/x").unwrap(), Some(Target::File("/var/log/x".into())));
    for text in ["binary:///bin/logger?id=x", "ttrpc+unix:///x?stream=y", "relative", "file://host/x"] {
        assert!(Target::parse(text).unwrap_err().to_string().contains("is not supported"), "{text}");
    }
}

#[tokio::test]
async fn clients_reach_input_and_output_by_name() {
    let mut host = Host::new();
    let address = "ttrpc+unix:///run/theca/default/web/keeper.sock?streaming_id=web-";
    let target = |name: &str| Target::parse(&format!("{address}{name}")).unwrap();
    let request = IoRequest { stdin: target("stdin"), stdout: target("stdout"), ..IoRequest::default() };
    let remotes = Remotes::default();
    let (mut stdio, drain) = Opened::open(&request, None, &remotes).unwrap().connect(&host.vsock);
    let again = Opened::open(&request, None, &remotes).err().unwrap().to_string();
    assert_eq!(again, "the stream web-stdin belongs to another process");

    let mut guest_in = host.stream(&stdio, |ids| ids.stdin).await;
    let Ok(remote::Attached::Input(client, _)) = remotes.attach("web-stdin").await else {
        panic!("no input")
    };
    client.send(b"typed".to_vec()).await.unwrap();
    stdio.close_input();
    drop(client);
    let mut typed = String::new();
    guest_in.read_to_string(&mut typed).await.unwrap();
    assert_eq!(typed, "typed", "and its end, once the client has gone");

    let mut guest_out = host.stream(&stdio, |ids| ids.stdout).await;
    guest_out.write_all(b"said").await.unwrap();
    drop(guest_out);
    drain.finish(ready(())).await;
    let Ok(remote::Attached::Output(said, _)) = remotes.attach("web-stdout").await else {
        panic!("no output")
    };
    let mut said = said.lock().await;
    assert_eq!(said.next(100).await.unwrap(), b"said");
    assert_eq!(said.next(100).await, None);
}
