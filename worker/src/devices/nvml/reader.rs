//! The thread that makes all calls: it opens the library, says what is there, and reads it round by round.

use super::board::Board;
use super::library::Library;
use super::{NvmlError, Options, inventory, sampler};
use crate::devices::{Device, Driver};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// What is there, or why it can't be known.
pub type Inventory = Result<(Vec<Device>, Driver), NvmlError>;

/// Starts it. The inventory comes when it is read; a driver that hangs never sends one.
///
/// # Errors
/// No thread can be made.
pub fn start(options: &Options, board: &Arc<Board>) -> Result<Receiver<Inventory>, NvmlError> {
    let (send, receive) = sync_channel(1);
    let (options, board) = (options.clone(), Arc::clone(board));
    let run = move || run(&options, &board, &send);
    std::thread::Builder::new().name("nvml".into()).spawn(run).map_err(NvmlError::Thread)?;
    Ok(receive)
}

fn run(options: &Options, board: &Board, found: &SyncSender<Inventory>) {
    let library = match Library::open(&options.library) {
        Ok(library) => library,
        Err(error) => return drop(found.send(Err(error))),
    };
    let (devices, driver) = match inventory::read(&library) {
        Ok(read) => read,
        Err(error) => return drop(found.send(Err(error))),
    };
    // 1. A first round, so that whoever has the inventory has samples too.
    let round = || board.round(devices.iter().map(|found| sampler::read(&library, found)).collect());
    round();
    let _ = found.send(Ok((devices.iter().map(|found| found.device.clone()).collect(), driver)));
    // 2. The others.
    while board.next_round(options.period) {
        round();
    }
}
