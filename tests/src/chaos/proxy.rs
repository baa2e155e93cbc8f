//! Our own TCP proxy between nodes and members, because the kernel of a test machine has no `netem`: delay, jitter, silence, cut
//! connections, half-closed ones. One listener a member; links are told apart by the caller's address.

use super::net::{Address, CLIENT, PORT};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

/// From a node to a member.
pub type Link = (Address, Address);

/// What a link does to bytes, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    pub delay: Duration,
    pub jitter: Duration,
    /// Nothing moves, and nobody is told.
    pub silent: bool,
}

/// What happens to the connections of a link at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// Both sides are closed.
    Cut,
    /// The caller's side is closed for writing only: the member sees the end of the stream, its answers still pass.
    HalfClose,
}

/// Bytes of one read.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks on their way in one direction: at 500 ms of delay that is 8 MiB/s.
const CHUNKS_MAX: usize = 256;
/// How often a silent link looks whether it may speak.
const SILENCE_PROBE: Duration = Duration::from_millis(20);

/// The proxy's switches. Cheap to clone.
#[derive(Clone)]
pub struct Proxy {
    shapes: Arc<Mutex<HashMap<Link, Shape>>>,
    blows: broadcast::Sender<(Link, Blow)>,
}

impl Proxy {
    /// Listens for these members, on a thread of its own.
    ///
    /// # Errors
    /// An address is taken.
    pub fn start(members: &[Address]) -> Result<Self> {
        let proxy = Self { shapes: Arc::default(), blows: broadcast::channel(64).0 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listeners = runtime.block_on(async {
            let mut listeners = Vec::new();
            for member in members {
                let at = SocketAddr::from((member.proxied(), PORT));
                listeners.push((
                    *member,
                    TcpListener::bind(at).await.with_context(|| format!("cannot listen on {at}"))?,
                ));
            }
            Ok::<_, anyhow::Error>(listeners)
        })?;
        let switches = proxy.clone();
        std::thread::Builder::new().name("proxy".into()).spawn(move || {
            runtime.block_on(async {
                let accept = listeners.into_iter().map(|(member, listener)| {
                    let switches = switches.clone();
                    tokio::spawn(async move { switches.serve(member, &listener).await })
                });
                for task in accept.collect::<Vec<_>>() {
                    let _ = task.await;
                }
            });
        })?;
        Ok(proxy)
    }

    /// Changes what a link does from now on.
    pub fn shape(&self, link: Link, shape: Shape) {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner).insert(link, shape);
    }

    /// Strikes all connections of a link.
    pub fn strike(&self, link: Link, blow: Blow) {
        let _ = self.blows.send((link, blow));
    }

    fn shape_of(&self, link: Link) -> Shape {
        self.shapes.lock().unwrap_or_else(PoisonError::into_inner).get(&link).copied().unwrap_or_default()
    }

    async fn serve(&self, member: Address, listener: &TcpListener) {
        loop {
            // Without descriptors accept fails at once, again and again.
            let Ok((stream, peer)) = listener.accept().await else {
                sleep(SILENCE_PROBE).await;
                continue;
            };
            let from = match peer.ip() {
                IpAddr::V4(ip) => Address(ip.octets()[3]),
                IpAddr::V6(_) => continue,
            };
            let proxy = self.clone();
            tokio::spawn(async move {
                // A connection that breaks is what this is here for.
                let _ = proxy.carry((from, member), stream).await;
            });
        }
    }

    async fn carry(&self, link: Link, caller: TcpStream) -> std::io::Result<()> {
        let mut blows = self.blows.subscribe();
        let socket = TcpSocket::new_v4()?;
        if link.0 != CLIENT {
            socket.bind(SocketAddr::from((link.0.behalf(), 0)))?;
        }
        let member = tokio::time::timeout(
            Duration::from_secs(5),
            socket.connect(SocketAddr::from((link.1.own(), PORT))),
        )
        .await??;
        caller.set_nodelay(true)?;
        member.set_nodelay(true)?;
        let (caller_read, caller_write) = caller.into_split();
        let (member_read, member_write) = member.into_split();
        let mut up = tokio::spawn(self.clone().copy(link, caller_read, member_write));
        let mut down = tokio::spawn(self.clone().copy(link, member_read, caller_write));
        loop {
            tokio::select! {
                _ = &mut up, if !up.is_finished() => {}
                _ = &mut down => { up.abort(); return Ok(()); }
                blow = blows.recv() => match blow {
                    Ok((struck, Blow::Cut)) if struck == link => { up.abort(); down.abort(); return Ok(()); }
                    Ok((struck, Blow::HalfClose)) if struck == link => up.abort(),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
            }
        }
    }

    /// One direction. What is read is due some time later, in order; the end of the stream as well.
    async fn copy(self, link: Link, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (send, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
        let shapes = self.clone();
        let reader = async move {
            let mut last = Instant::now();
            let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let n = match from.read(&mut chunk).await {
                    Ok(0) | Err(_) => return,
                    Ok(n) => n,
                };
                chunk.truncate(n);
                let shape = shapes.shape_of(link);
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let jitter = shape.jitter.mul_f64((dice >> 40) as f64 / (1_u64 << 24) as f64);
                last = last.max(Instant::now() + shape.delay + jitter);
                if send.send((last, chunk)).await.is_err() {
                    return;
                }
            }
        };
        let writer = async move {
            while let Some((due, chunk)) = chunks.recv().await {
                sleep_until(due).await;
                while self.shape_of(link).silent {
                    sleep(SILENCE_PROBE).await;
                }
                if to.write_all(&chunk).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        };
        // A writer that ends early drops the channel, and with it the reader at its next chunk.
        tokio::join!(reader, writer);
    }
}
