//! `wasi:io/poll`: which of the things that a guest waits for is ready, noted for a record or told again.

use serde::de::DeserializeOwned;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::{
    DynPollable,
    bindings::io::poll::{self, HostPollable as _},
};

use super::State;

impl poll::Host for State {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        // Of one alone, there is nothing to choose.
        if self.tape.is_none() || pollables.len() < 2 {
            return self.table.poll(pollables).await;
        }
        let among = pollables.len();
        if let Some(ready) = self.told::<Vec<u32>>("poll", among) {
            for &index in &ready {
                let Some(pollable) = pollables.get(index as usize) else {
                    continue;
                };
                let pollable = Resource::new_borrow(pollable.rep());
                self.table.block(pollable).await?;
            }
            return Ok(ready);
        }
        let ready = self.table.poll(pollables).await?;
        self.note("poll", among, &ready);
        Ok(ready)
    }
}

impl poll::HostPollable for State {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.table.block(pollable).await
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        match self.told("poll.ready", 1) {
            Some(true) => {
                self.table.block(pollable).await?;
                Ok(true)
            }
            Some(false) => Ok(false),
            None => {
                let ready = self.table.ready(pollable).await?;
                self.note("poll.ready", 1, &ready);
                Ok(ready)
            }
        }
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(&mut self.table, pollable)
    }
}

impl State {
    /// What was ready of so many; none if nothing is told, and what is ready here is.
    fn told<T: DeserializeOwned>(&self, ask: &str, among: usize) -> Option<T> {
        let told = self.tape.as_ref()?.told(ask, &among.into())?;
        serde_json::from_value(told).ok()
    }

    fn note(&self, ask: &str, among: usize, ready: &impl serde::Serialize) {
        if let Some(tape) = self.tape.as_ref().filter(|tape| !tape.plays()) {
            tape.note(ask, among.into(), ready);
        }
    }
}
