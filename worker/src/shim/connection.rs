//! The agent's connection: bytes in, frames out, one write a turn.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::protocol::{Event, Frames, write_frame};

/// Unsent bytes at which an agent that does not read is given up; it learns everything again when it comes back.
const OUT_MAX: usize = 16 << 20;
/// Bytes taken in at once: thousands of small requests, few enough that timers are not late.
const IN_MAX: usize = 256 << 10;

/// One agent.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    pub frames: Frames,
    out: Vec<u8>,
    /// The hello was answered.
    pub greeted: bool,
    /// Waiting for room in the socket.
    pub blocked: bool,
}

impl Connection {
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream, frames: Frames::default(), out: Vec::new(), greeted: false, blocked: false })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Takes in what is there. False at the end of the stream.
    pub fn read(&mut self, buffer: &mut [u8]) -> bool {
        let mut taken = 0;
        while taken < IN_MAX {
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(n) => {
                    self.frames.push(&buffer[..n]);
                    taken += n;
                    if n < buffer.len() {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Puts an event into the next write.
    pub fn send(&mut self, event: &Event) {
        // An event that does not fit a frame can only be a list of hundreds of thousands of records; the agent asks again.
        let _ = write_frame(&mut self.out, event);
    }

    /// Writes what there is. False when the agent is gone or reads too slowly.
    pub fn flush(&mut self) -> bool {
        let mut sent = 0;
        let alive = loop {
            if sent == self.out.len() {
                self.blocked = false;
                break true;
            }
            match self.stream.write(&self.out[sent..]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    break true;
                }
                Err(_) => break false,
            }
        };
        self.out.drain(..sent);
        alive && self.out.len() <= OUT_MAX
    }
}
