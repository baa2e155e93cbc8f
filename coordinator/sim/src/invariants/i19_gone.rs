//! I19: the end of an attempt is in the log only when nothing of it lives any more, in truth: what it held is offered again from then on.

use crate::world::World;
use muster_core::model::ids::{IndexRef, Token};

pub(crate) fn on_ended(world: &mut World, at: IndexRef, token: Token) {
    let lives = world.oracle.running.get(&at).and_then(|all| all.iter().find(|(_, t)| *t == token));
    if let Some((w, _)) = lives {
        let what = format!("I19: the end of token {token} of {at:?} was accepted and it lives on w{w}");
        world.violate(what);
    }
}
