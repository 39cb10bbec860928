//! A sandbox that was created only to be started at once.

use std::sync::Arc;

use super::Started;
use super::handle::{Handle, Request};
use crate::node::{Node, Result};

/// One that goes again unless its start is answered: not when that fails, and not when whoever asked for it has gone.
pub struct Fresh {
    node: Node,
    handle: Arc<Handle>,
    kept: bool,
}

impl Fresh {
    /// It was created just now.
    pub fn new(node: Node, handle: Arc<Handle>) -> Self {
        Self { node, handle, kept: false }
    }

    /// Starts it; from its answer on it stays.
    pub async fn start(mut self) -> Result<Started> {
        let started = self.handle.ask(Request::Start).await;
        self.kept = started.is_ok();
        started
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            let (node, handle) = (self.node.clone(), self.handle.clone());
            self.node.shared.spawn(async move { node.end_unwanted(&handle).await });
        }
    }
}
