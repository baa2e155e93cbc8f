//! How a source speaks: to the worker of its notices, to people of what is wrong with it.

use super::merge::{Said, Standing};
use muster_core::model::notice::NoticeSource;
use std::fmt::Display;
use tokio::sync::mpsc::UnboundedSender;

/// A source's way out.
#[derive(Debug, Clone)]
pub struct Mouth {
    source: NoticeSource,
    out: UnboundedSender<Said>,
}

impl Mouth {
    pub fn new(source: NoticeSource, out: UnboundedSender<Said>) -> Self {
        Self { source, out }
    }

    /// Says what stands of one of its things; saying the same again is harmless.
    pub fn say(&self, part: &str, standing: Option<Standing>) {
        let _ = self.out.send(Said { source: self.source, part: part.to_owned(), standing });
    }

    /// Something that can go wrong.
    pub fn trouble(&self, what: &'static str) -> Trouble {
        Trouble { source: self.source, what, last: None }
    }
}

/// Says once what is wrong, not at every try, and once that it is well again.
#[derive(Debug)]
pub struct Trouble {
    source: NoticeSource,
    what: &'static str,
    last: Option<String>,
}

impl Trouble {
    /// It went wrong.
    pub fn met(&mut self, why: &impl Display) {
        let why = super::merge::words(&why.to_string());
        if self.last.as_ref() != Some(&why) {
            tracing::warn!(
                source = self.source.as_str(),
                what = self.what,
                why,
                "a source of preemption notices does not answer; it is asked again"
            );
            self.last = Some(why);
        }
    }

    /// It went well.
    pub fn over(&mut self) {
        if self.last.take().is_some() {
            tracing::info!(
                source = self.source.as_str(),
                what = self.what,
                "a source of preemption notices answers again"
            );
        }
    }
}
