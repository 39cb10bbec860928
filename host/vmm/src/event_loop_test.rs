use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;

struct Counter {
    fd: EventFd,
    calls: AtomicUsize,
}

impl Subscriber for Counter {
    fn ready(&self, token: u64, ready: Ready) {
        assert_eq!((token, ready.readable), (7, true));
        self.fd.read().unwrap();
        self.calls.fetch_add(1, Ordering::SeqCst);
    }
}

fn counter() -> (Arc<Counter>, EventFd) {
    let fd = EventFd::new(EFD_NONBLOCK).unwrap();
    (Arc::new(Counter { fd: fd.try_clone().unwrap(), calls: AtomicUsize::new(0) }), fd)
}

fn watch(handle: &Handle, counter: &Arc<Counter>, fd: EventFd) -> Registered<EventFd> {
    let subscriber: Weak<dyn Subscriber> = Arc::downgrade(&(counter.clone() as Arc<dyn Subscriber>));
    handle.register(fd, Interest::Readable, subscriber, 7).unwrap()
}

#[test]
fn a_registered_descriptor_is_reported_until_its_registration_is_dropped() {
    let events = EventLoop::new().unwrap();
    let (counter, fd) = counter();
    let watched = watch(&events.handle(), &counter, fd);
    watched.write(1).unwrap();
    assert_eq!(events.turn(1000).unwrap(), 1);
    assert_eq!(counter.calls.load(Ordering::SeqCst), 1);
    let fd = watched.try_clone().unwrap();
    drop(watched);
    fd.write(1).unwrap();
    assert_eq!(events.turn(0).unwrap(), 0);
}

#[test]
fn a_paused_loop_serves_nothing_until_it_is_resumed() {
    let events = EventLoop::new().unwrap();
    let handle = events.handle();
    let (counter, fd) = counter();
    let watched = watch(&handle, &counter, fd);
    let thread = thread::spawn(move || events.run());
    handle.pause();
    handle.pause();
    watched.write(1).unwrap();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(counter.calls.load(Ordering::SeqCst), 0);
    handle.resume();
    while counter.calls.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    handle.stop();
    thread.join().unwrap().unwrap();
}

/// Stays in its callback until it is told.
struct Away {
    entered: EventFd,
    leave: Mutex<mpsc::Receiver<()>>,
}

impl Subscriber for Away {
    fn ready(&self, _token: u64, _ready: Ready) {
        self.entered.write(1).unwrap();
        self.leave.lock().unwrap().recv().unwrap();
    }
}

#[test]
fn a_thread_that_is_away_holds_up_a_pause_and_nothing_else() {
    let events = Arc::new(EventLoop::for_threads(3).unwrap());
    let handle = events.handle();
    let threads: Vec<_> = (0..3).map(|_| events.clone()).map(|e| thread::spawn(move || e.run())).collect();
    let (leave, told) = mpsc::channel();
    let away = Arc::new(Away { entered: EventFd::new(0).unwrap(), leave: Mutex::new(told) });
    let subscriber: Weak<dyn Subscriber> = Arc::downgrade(&(away.clone() as Arc<dyn Subscriber>));
    let fd = EventFd::new(EFD_NONBLOCK).unwrap();
    let slow = handle.register(fd, Interest::Writes, subscriber, 0).unwrap();
    slow.write(1).unwrap();
    away.entered.read().unwrap();

    let (counter, fd) = counter();
    // Of a descriptor that is just readable two threads may hear at once.
    let subscriber: Weak<dyn Subscriber> = Arc::downgrade(&(counter.clone() as Arc<dyn Subscriber>));
    let watched = handle.register(fd, Interest::Writes, subscriber, 7).unwrap();
    watched.write(1).unwrap();
    while counter.calls.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    let pausing = thread::spawn({
        let handle = handle.clone();
        move || handle.pause()
    });
    thread::sleep(Duration::from_millis(20));
    assert!(!pausing.is_finished(), "paused while a thread is in a callback");
    leave.send(()).unwrap();
    pausing.join().unwrap();

    watched.write(1).unwrap();
    thread::sleep(Duration::from_millis(20));
    assert_eq!(counter.calls.load(Ordering::SeqCst), 1);
    handle.stop();
    threads.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
}

#[test]
fn stopping_a_paused_loop_ends_its_thread() {
    let events = EventLoop::new().unwrap();
    let handle = events.handle();
    let thread = thread::spawn(move || events.run());
    handle.pause();
    handle.stop();
    handle.pause();
    thread.join().unwrap().unwrap();
}
