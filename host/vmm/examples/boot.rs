//! Plays the keeper for one VM: `boot [OPTION]… VMLINUX`, for tests by hand and measurements.
//!
//! Prints what the guest printed, how it ended and how long the phases took; exits with 0 if the guest powered off.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use theca_vmm_protocol::{
    Channel, Console, Disk, DiskSlot, Event, ExitReason, FdIndex, FromVmm, Reply, Request, VmConfig, Vsock,
};

const USAGE: &str = "usage: boot [--vmm PROGRAM] [--initrd FILE] [--cpus N] [--memory MIB] [--cmdline WORDS] \
                     [--disk FILE | --disk-ro FILE | --disk-empty]… [--no-vsock] [--no-rng] [--pause MILLISECONDS] \
                     [--save FILE] [--dial PORT TEXT] [--until-ready] [--quiet] VMLINUX";
/// Where the agent reports that it is ready.
const READY_PORT: u32 = 1025;

struct Options {
    vmm: PathBuf,
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    vcpus: u8,
    memory_mib: u64,
    cmdline: String,
    disks: Vec<(Option<PathBuf>, bool)>,
    vsock: bool,
    rng: bool,
    pause: Option<Duration>,
    save: Option<PathBuf>,
    dial: Option<(u32, String)>,
    until_ready: bool,
    quiet: bool,
}

fn main() -> ExitCode {
    match options().and_then(|options| boot(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("boot: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> anyhow::Result<Options> {
    let beside =
        std::env::current_exe()?.parent().and_then(Path::parent).map(|folder| folder.join("theca-vmm"));
    let mut options = Options {
        vmm: beside.context("no folder beside this program")?,
        kernel: PathBuf::new(),
        initrd: None,
        vcpus: 1,
        memory_mib: 128,
        cmdline: String::new(),
        disks: Vec::new(),
        vsock: true,
        rng: true,
        pause: None,
        save: None,
        dial: None,
        until_ready: false,
        quiet: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value; {USAGE}"));
        match argument.as_str() {
            "--vmm" => options.vmm = value()?.into(),
            "--initrd" => options.initrd = Some(value()?.into()),
            "--cpus" => options.vcpus = value()?.parse()?,
            "--memory" => options.memory_mib = value()?.parse()?,
            "--cmdline" => options.cmdline = value()?,
            "--disk" => options.disks.push((Some(value()?.into()), false)),
            "--disk-ro" => options.disks.push((Some(value()?.into()), true)),
            "--disk-empty" => options.disks.push((None, false)),
            "--no-vsock" => options.vsock = false,
            "--no-rng" => options.rng = false,
            "--pause" => options.pause = Some(Duration::from_millis(value()?.parse()?)),
            "--save" => options.save = Some(value()?.into()),
            "--dial" => options.dial = Some((value()?.parse()?, value()?)),
            "--until-ready" => options.until_ready = true,
            "--quiet" => options.quiet = true,
            kernel if !kernel.starts_with('-') => options.kernel = kernel.into(),
            _ => bail!("unknown option {argument}; {USAGE}"),
        }
    }
    if options.kernel.as_os_str().is_empty() {
        bail!(USAGE);
    }
    Ok(options)
}

/// Descriptors of one packet.
#[derive(Default)]
struct Fds(Vec<OwnedFd>);

impl Fds {
    fn add(&mut self, fd: impl Into<OwnedFd>) -> FdIndex {
        self.0.push(fd.into());
        FdIndex((self.0.len() - 1) as u8)
    }

    fn open(&mut self, path: &Path, write: bool) -> anyhow::Result<FdIndex> {
        let file = OpenOptions::new().read(true).write(write).open(path);
        Ok(self.add(file.with_context(|| format!("failed to open {}", path.display()))?))
    }

    fn borrow(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd).collect()
    }
}

struct Keeper {
    channel: Channel,
    began: Instant,
    end: Option<ExitReason>,
    ready: Option<OwnedFd>,
}

fn boot(options: &Options) -> anyhow::Result<bool> {
    let folder = std::env::temp_dir().join(format!("theca-boot-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = boot_in(options, &folder);
    std::fs::remove_dir_all(&folder)?;
    result
}

fn boot_in(options: &Options, folder: &Path) -> anyhow::Result<bool> {
    let mut fds = Fds::default();
    let log_path = folder.join("console.log");
    File::create(&log_path)?;
    let config = configure(options, folder, &log_path, &mut fds)?;

    let began = Instant::now();
    let (channel, theirs) = Channel::pair()?;
    let theirs = theirs.into_socket();
    // The child finds its socket under the number it has here.
    nix::fcntl::fcntl(&theirs, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
    let mut child = Command::new(&options.vmm)
        .args(["--control-fd", &theirs.as_raw_fd().to_string()])
        .spawn()
        .with_context(|| format!("failed to start {}", options.vmm.display()))?;
    drop(theirs);
    let mut keeper = Keeper { channel, began, end: None, ready: None };
    let outcome = converse(&mut keeper, options, folder, config, fds, child.id());
    let console = read_log(&log_path)?;
    if !options.quiet {
        std::io::stdout().write_all(&console)?;
    }
    drop(keeper);
    let status = child.wait()?;
    let end = outcome.with_context(|| format!("the VMM ended with {status}"))?;
    println!("boot: {end:?}, vmm {status}, {} ms in all", began.elapsed().as_millis());
    Ok(end == ExitReason::Shutdown)
}

fn configure(options: &Options, folder: &Path, log: &Path, fds: &mut Fds) -> anyhow::Result<VmConfig> {
    let vsock = options.vsock.then(|| UnixListener::bind(folder.join("vsock.sock"))).transpose()?;
    let mut disks = Vec::new();
    for (number, (path, read_only)) in options.disks.iter().enumerate() {
        disks.push(match path {
            None => DiskSlot::Empty,
            Some(path) => DiskSlot::Disk(Disk {
                file: fds.open(path, !read_only)?,
                read_only: *read_only,
                serial: format!("disk-{number}"),
            }),
        });
    }
    Ok(VmConfig {
        vcpus: options.vcpus,
        memory_mib: options.memory_mib,
        cmdline: options.cmdline.clone(),
        kvm: fds.open(Path::new("/dev/kvm"), true)?,
        kernel: fds.open(&options.kernel, false)?,
        initrd: options.initrd.as_deref().map(|path| fds.open(path, false)).transpose()?,
        console: Console { log: fds.open(log, true)?, max_bytes: 1 << 20 },
        vsock: vsock.map(|listener| Vsock {
            guest_cid: 3,
            listener: fds.add(listener),
            host_ports: vec![READY_PORT],
        }),
        disks,
        rng: options.rng,
    })
}

fn converse(
    keeper: &mut Keeper,
    options: &Options,
    folder: &Path,
    config: VmConfig,
    fds: Fds,
    vmm: u32,
) -> anyhow::Result<ExitReason> {
    keeper.request(&Request::Configure(Box::new(config)), &fds.borrow())?;
    keeper.phase("configured");
    drop(fds);
    keeper.request(&Request::Start, &[])?;
    keeper.phase("started");
    if let Some(after) = options.pause {
        std::thread::sleep(after);
        keeper.request(&Request::Pause, &[])?;
        keeper.phase("paused");
        if let Some(path) = &options.save {
            let file = File::create(path)?;
            keeper.request(&Request::SaveState { file: FdIndex(0) }, &[file.as_fd()])?;
            println!("boot: saved {} bytes of state", std::fs::metadata(path)?.len());
        }
        keeper.request(&Request::Resume, &[])?;
        keeper.phase("resumed");
    }
    if options.until_ready {
        while keeper.ready.is_none() && keeper.end.is_none() {
            keeper.receive()?;
        }
        keeper.phase("ready");
        print_memory(vmm)?;
    }
    if let Some((port, text)) = &options.dial {
        println!("boot: port {port} answered {:?}", dial(&folder.join("vsock.sock"), *port, text)?);
    }
    if let Ok(Reply::Stats(stats)) = keeper.request(&Request::Stats, &[]) {
        println!("boot: {stats:?}");
    }
    if options.until_ready && keeper.end.is_none() {
        keeper.request(&Request::Quit, &[])?;
    }
    while keeper.end.is_none() {
        keeper.receive()?;
    }
    keeper.phase("ended");
    keeper.end.take().context("no reason given")
}

impl Keeper {
    fn request(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> anyhow::Result<Reply> {
        self.channel.send(request, fds)?;
        loop {
            match self.receive()? {
                Some(Reply::Failed(sentence)) => bail!(sentence),
                Some(reply) => return Ok(reply),
                None if self.end.is_some() => bail!("the guest ended: {:?}", self.end),
                None => {}
            }
        }
    }

    fn receive(&mut self) -> anyhow::Result<Option<Reply>> {
        let (message, mut fds) = self.channel.receive::<FromVmm>()?;
        match message {
            FromVmm::Reply(reply) => return Ok(Some(reply)),
            FromVmm::Event(Event::Connect { port: READY_PORT }) => self.ready = fds.pop(),
            FromVmm::Event(Event::Connect { port }) => println!("boot: the guest dialled port {port}"),
            FromVmm::Event(Event::Exited(reason)) => self.end = Some(reason),
        }
        Ok(None)
    }

    fn phase(&self, name: &str) {
        println!("boot: {name} after {:.1} ms", self.began.elapsed().as_secs_f64() * 1e3);
    }
}

/// Speaks the hybrid protocol: `CONNECT port`, then `text`; answers what comes back until the guest closes.
fn dial(socket: &Path, port: u32, text: &str) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if !line.starts_with("OK ") {
        bail!("the guest refused port {port}: {line:?}");
    }
    stream.write_all(text.as_bytes())?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    reader.read_to_string(&mut answer)?;
    Ok(answer)
}

fn read_log(path: &Path) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = vec![0; file.metadata()?.len() as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Resident memory of the VMM: all of it, and without guest RAM, which is the longest run of mappings side by side
/// (kernel and initrd lie over it as mappings of their own).
fn print_memory(vmm: u32) -> anyhow::Result<()> {
    struct Run {
        end: u64,
        length: u64,
        resident_kib: u64,
    }
    let maps = std::fs::read_to_string(format!("/proc/{vmm}/smaps"))?;
    let mut runs: Vec<Run> = Vec::new();
    for line in maps.lines() {
        let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some((start, end)) = first.split_once('-') {
            let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
            match runs.last_mut() {
                Some(run) if run.end == start => {
                    run.end = end;
                    run.length += end - start;
                }
                _ => runs.push(Run { end, length: end - start, resident_kib: 0 }),
            }
        } else if let ("Rss:", Some(run)) = (first, runs.last_mut()) {
            run.resident_kib += rest.trim().trim_end_matches(" kB").parse::<u64>()?;
        }
    }
    let total: u64 = runs.iter().map(|run| run.resident_kib).sum();
    let ram = runs.iter().max_by_key(|run| run.length).map_or(0, |run| run.resident_kib);
    println!("boot: VMM resident {} KiB, guest RAM {ram} KiB", total - ram);
    Ok(())
}
