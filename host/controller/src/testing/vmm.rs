//! A VMM process without a VM: this test program, started again and told how to behave.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use theca_vmm_protocol::{Channel, Event, ExitReason, FromVmm, Reply, Request};

use crate::sys::inherit;

/// Tells the process what to be.
const VARIABLE: &str = "THECA_FAKE_VMM";

/// Makes a program in `folder` that behaves as `behaviour` says:
///
/// - `boots`: its guest dials, and writes `hello` to each output stream;
/// - `floods`: the same, and much more than `hello`;
/// - `hangs-up`: its guest dials, and soon loses that connection;
/// - `redials`: its guest dials again, and powers off when that connection is closed;
/// - `refuses`: it cannot build the machine;
/// - `panics`: its guest panics at once;
/// - `silent`: its guest never dials;
/// - `hangs`: it answers nothing, and does not end when asked.
pub fn program(folder: &Path, behaviour: &str) -> PathBuf {
    let path = folder.join("theca-vmm");
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --control-fd ] || exit 2\n{VARIABLE}=\"{behaviour} $2\" exec {} --exact --ignored \
         testing::vmm::be_a_vmm\n",
        this.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
#[ignore = "the process that other tests start as their VMM"]
fn be_a_vmm() {
    let told = std::env::var(VARIABLE).unwrap();
    let (behaviour, number) = told.split_once(' ').unwrap();
    let control = Channel::from_socket(inherit::take(number.parse().unwrap()).unwrap());
    if behaviour == "hangs" {
        thread::sleep(Duration::from_secs(60));
    }
    let mut guest_end = None;
    let exited = |why| control.send(&FromVmm::Event(Event::Exited(why)), &[]).unwrap();
    while let Ok((request, mut fds)) = control.receive::<Request>() {
        let reply = |reply| control.send(&FromVmm::Reply(reply), &[]).unwrap();
        match request {
            Request::Configure(_) if behaviour == "refuses" => {
                reply(Reply::Failed("no machine today".into()))
            }
            Request::Configure(config) => {
                let listener = config.vsock.unwrap().listener;
                let listener = UnixListener::from(fds.swap_remove(listener.0.into()));
                let said = if behaviour == "floods" { "hello\n".repeat(1 << 18) } else { "hello\n".into() };
                thread::spawn(move || {
                    listener.incoming().flatten().for_each(|stream| drop(serve_stream(stream, &said)))
                });
                reply(Reply::Done);
            }
            Request::Start => {
                reply(Reply::Done);
                match behaviour {
                    "panics" => return exited(ExitReason::Panic),
                    "silent" => {}
                    _ => {
                        guest_end = Some(dial(&control));
                        if behaviour == "hangs-up" {
                            let dialled = guest_end.take();
                            thread::spawn(move || {
                                thread::sleep(Duration::from_millis(500));
                                drop(dialled);
                            });
                        }
                        if behaviour == "redials" {
                            dial(&control).read_to_end(&mut Vec::new()).unwrap();
                            return exited(ExitReason::Shutdown);
                        }
                    }
                }
            }
            Request::Quit => {
                reply(Reply::Done);
                return exited(ExitReason::Quit);
            }
            _ => reply(Reply::Done),
        }
    }
    drop(guest_end);
}

/// The guest's end of a connection to the ready port.
fn dial(control: &Channel) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let dial = FromVmm::Event(Event::Connect { port: crate::agent::READY_PORT });
    control.send(&dial, &[theirs.as_fd()]).unwrap();
    ours
}

fn serve_stream(stream: UnixStream, said: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    (&stream).write_all(b"OK 1\n")?;
    line.clear();
    reader.read_line(&mut line)?;
    if line.ends_with("-out\n") {
        (&stream).write_all(said.as_bytes())?;
    }
    Ok(())
}
