//! What a call may use, and what it has used.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use super::byte_budget::ByteBudget;
use crate::{guest::Error, plugin::is_out_of_time};

/// How much one call may use of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Bytes of all that the instance holds: its linear memories and tables, and what the host keeps of it.
    pub memory_bytes: usize,
    /// Bytes that cross the boundary in arguments of imports, and those that a guest asks for.
    pub boundary_bytes: usize,
    /// Calls of imports.
    pub host_calls: usize,
    /// Effects.
    pub effects: usize,
    /// Bytes of log lines and of standard output.
    pub log_bytes: usize,
    /// Bytes that are kept with one connection.
    pub data_bytes: usize,
}

/// How much a call has used of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    /// Bytes of all that the instance holds.
    pub memory_bytes: usize,
    /// Bytes that have crossed the boundary.
    pub boundary_bytes: usize,
    /// Calls of imports.
    pub host_calls: usize,
    /// Effects.
    pub effects: usize,
    /// Bytes of log lines.
    pub log_bytes: usize,
}

/// A budget is used up; the call fails as a whole.
#[derive(Debug, thiserror::Error)]
#[error("the budget {budget} = {allowed} is used up")]
pub struct OverBudget {
    /// The key in `mixlab.toml`.
    pub budget: &'static str,
    /// Its value.
    pub allowed: String,
}

impl OverBudget {
    /// For a budget of so many bytes.
    pub fn bytes(budget: &'static str, allowed: usize) -> Self {
        Self {
            budget,
            allowed: bytesize::ByteSize(allowed as u64)
                .display()
                .iec()
                .to_string(),
        }
    }
}

/// Counts what the current call uses; memory is counted over the instance's life.
#[derive(Debug)]
pub struct Meter {
    allowance: Allowance,
    memory_bytes: usize,
    /// Shared with the requests that are under way.
    boundary: Arc<ByteBudget>,
    host_calls: usize,
    effects: usize,
    log_bytes: usize,
    /// Whether the guest itself says what becomes of memory that it does not get.
    handles_shortage: bool,
}

impl Meter {
    /// Nothing used yet.
    pub fn new(allowance: Allowance) -> Self {
        Self {
            allowance,
            memory_bytes: 0,
            boundary: Arc::new(ByteBudget::new("boundary", allowance.boundary_bytes)),
            host_calls: 0,
            effects: 0,
            log_bytes: 0,
            handles_shortage: false,
        }
    }

    /// From now on, memory that is not there is refused, and no reason to end the guest.
    pub fn let_handle_shortage(&mut self) {
        self.handles_shortage = true;
    }

    /// How much more memory the instance may have, in bytes.
    pub fn memory_left(&self) -> usize {
        self.allowance
            .memory_bytes
            .saturating_sub(self.memory_bytes)
    }

    /// Starts the next call.
    pub fn reset(&mut self) {
        match Arc::get_mut(&mut self.boundary) {
            Some(boundary) => boundary.reset(),
            // What is left of the former call's requests counts there.
            None => self.boundary = Arc::new(self.boundary.afresh()),
        }
        self.host_calls = 0;
        self.effects = 0;
        self.log_bytes = 0;
    }

    /// What the call has used up to now.
    pub(crate) fn used(&self) -> Used {
        Used {
            memory_bytes: self.memory_bytes,
            boundary_bytes: self.boundary.used(),
            host_calls: self.host_calls,
            effects: self.effects,
            log_bytes: self.log_bytes,
        }
    }

    /// What the instance holds, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Counts a call of an import that brings `bytes` with it. Every import begins with this.
    pub fn host_call(&mut self, bytes: usize) -> Result<(), OverBudget> {
        self.host_calls += 1;
        if self.host_calls > self.allowance.host_calls {
            let allowed = self.allowance.host_calls.to_string();
            return Err(OverBudget {
                budget: "host_calls",
                allowed,
            });
        }
        if self.effects > self.allowance.effects {
            return Err(OverBudget {
                budget: "effects",
                allowed: self.allowance.effects.to_string(),
            });
        }
        self.boundary(bytes)
    }

    /// Counts bytes that cross the boundary.
    pub fn boundary(&mut self, bytes: usize) -> Result<(), OverBudget> {
        self.boundary.charge(bytes)
    }

    /// Counts bytes that others have sent meanwhile, if there is room for them: how many they are
    /// is not the guest's doing, so they do not fail the call.
    pub fn answer(&mut self, bytes: usize) -> Result<(), Error> {
        self.boundary.take(bytes)
    }

    /// How many bytes may still cross the boundary.
    pub fn boundary_left(&self) -> usize {
        self.boundary.left()
    }

    /// What a guest is told of an answer for which there is no room.
    pub fn boundary_full(&self) -> Error {
        self.boundary.full()
    }

    /// What may cross the boundary in this call, for what counts beside the guest.
    pub(super) fn shared_boundary(&self) -> &Arc<ByteBudget> {
        &self.boundary
    }

    /// Counts bytes of the log.
    pub fn log(&mut self, bytes: usize) -> Result<(), OverBudget> {
        self.log_bytes = self.log_bytes.saturating_add(bytes);
        if self.log_bytes > self.allowance.log_bytes {
            return Err(OverBudget::bytes("log", self.allowance.log_bytes));
        }
        Ok(())
    }

    /// Counts an effect. The guest is told of the first one over the budget and may leave it at
    /// that; if it goes on trying, the next import fails the call.
    pub fn effect(&mut self) -> Result<(), Error> {
        self.effects += 1;
        if self.effects > self.allowance.effects {
            return Err(Error::OverBudget(format!(
                "effects = {}",
                self.allowance.effects
            )));
        }
        Ok(())
    }

    /// Whether so many bytes may be kept with a connection.
    pub fn data(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.allowance.data_bytes {
            let over = OverBudget::bytes("data", self.allowance.data_bytes);
            return Err(Error::OverBudget(format!("data = {}", over.allowed)));
        }
        Ok(())
    }

    /// Counts bytes that the instance holds from now on.
    pub fn grow(&mut self, bytes: usize) -> Result<(), OverBudget> {
        let wanted = self.memory_bytes.saturating_add(bytes);
        if wanted > self.allowance.memory_bytes {
            return Err(OverBudget::bytes("memory", self.allowance.memory_bytes));
        }
        self.memory_bytes = wanted;
        Ok(())
    }
}

/// How many memories an instance may have. Each takes gigabytes of addresses, however small it is;
/// components have one or two.
const MAX_MEMORIES: usize = 16;

/// How many instances of modules a component may have. Those of the largest tools, which link a
/// language's libraries together, have a few dozen.
pub(crate) const MAX_CORE_INSTANCES: usize = 256;

/// How many tables an instance may have: one or two for each of those.
const MAX_TABLES: usize = 2 * MAX_CORE_INSTANCES;

/// Bytes that a table element takes in the host.
const TABLE_ELEMENT_BYTES: usize = size_of::<usize>();

/// Sums over all memories and tables of a component. An overrun is an error rather than a failed
/// `memory.grow`, so that the log names the budget and not some guest's allocator; but for scripts, which
/// name the line.
impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Nobody begins without any memory.
        let is_up_to_it = self.handles_shortage && current > 0;
        // What runs in one go in the engine of scripts does not ask whether time is up; but it takes memory.
        if is_up_to_it && is_out_of_time() {
            return Ok(false);
        }
        match self.grow(desired.saturating_sub(current)) {
            Ok(()) => Ok(true),
            Err(_) if is_up_to_it => Ok(false),
            Err(over) => Err(over.into()),
        }
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(
            desired
                .saturating_sub(current)
                .saturating_mul(TABLE_ELEMENT_BYTES),
        )?;
        Ok(true)
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }
}
