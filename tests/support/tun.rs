//! A TUN device that gives every packet back to the kernel after a while: a delay line, where netem is not to be had.

#![allow(unsafe_code)]

use std::ffi::{c_char, c_short};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};

const DEVICE: &str = "/dev/net/tun";
/// The longest packet of a device whose MTU nobody changed, and some.
const PACKET: usize = 2048;

/// Why there can be none here; `None`: there can.
pub fn why_not() -> Option<String> {
    open()
        .err()
        .map(|error| format!("no TUN device: {DEVICE}: {error}"))
}

/// An interface in this thread's namespace. It lasts as long as this, or as the threads of [`Tun::give_back`].
pub struct Tun(File);

impl Tun {
    /// Makes it; it is down.
    pub fn new(name: &str) -> io::Result<Self> {
        let device = open()?;
        attach(&device, name)?;
        Ok(Self(device))
    }

    /// Gives every packet back after so long, in order, once the interface is up and for as long as it is.
    pub fn give_back(self, delay: Duration) {
        let (taken, line) = channel::<(Instant, Vec<u8>)>();
        let device = Arc::new(self.0);
        let from = Arc::clone(&device);
        thread::spawn(move || {
            let mut buffer = [0; PACKET];
            while let Ok(length) = (&*from).read(&mut buffer) {
                let due = Instant::now() + delay;
                if taken.send((due, buffer[..length].to_vec())).is_err() {
                    break;
                }
            }
        });
        thread::spawn(move || {
            for (due, packet) in line {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                // What the kernel does not take is lost, as on any way.
                _ = (&*device).write(&packet);
            }
        });
    }
}

fn open() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE)
}

/// `struct ifreq` (linux/if.h), of whose union TUNSETIFF knows the flags.
#[repr(C)]
struct Request {
    name: [c_char; 16],
    flags: c_short,
    /// The union's longest member, `struct ifmap`, has 24 bytes at most.
    rest: [u8; 22],
}

/// Whole IP packets, and nothing in front of them.
const IFF_TUN: c_short = 0x0001;
const IFF_NO_PI: c_short = 0x1000;
/// linux/if_tun.h: `_IOW('T', 202, int)`, although it is not an int that it takes.
const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);

fn attach(device: &File, name: &str) -> io::Result<()> {
    let mut request = Request {
        name: [0; 16],
        flags: IFF_TUN | IFF_NO_PI,
        rest: [0; 22],
    };
    assert!(name.len() < request.name.len(), "{name}: too long");
    for (to, byte) in request.name.iter_mut().zip(name.bytes()) {
        *to = c_char::try_from(byte).expect("an ASCII name");
    }
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, for which `Request` has the layout and room enough, and
    // keeps no pointer to it.
    let done = unsafe {
        ioctl(
            device.as_fd(),
            Updater::<TUNSETIFF, Request>::new(&mut request),
        )
    };
    Ok(done?)
}
