//! I19: the end of an attempt that was reported is accepted only when nothing of it lives any more, in truth: what it held is offered
//! again from then on. (An end that nobody reported, of a worker that is lost, is the lease's matter: I3 and I4 look at what starts.)

use crate::world::World;
use muster_core::model::attempt::Cause;
use muster_core::model::ids::{IndexRef, Token};

pub(crate) fn on_ended(world: &mut World, at: IndexRef, token: Token, cause: &Cause) {
    let lives = world.oracle.running.get(&at).and_then(|all| all.iter().find(|(_, t)| *t == token));
    if let Some((w, _)) = lives
        && *cause != Cause::Lost
    {
        let what =
            format!("I19: the end of token {token} of {at:?} was accepted ({cause}) and it lives on w{w}");
        world.violate(what);
    }
}
