//! `wasi:random`: what a guest is given in the number that it asks for, so it counts as if it came
//! from the guest.

use wasmtime_wasi::p2::bindings::random::{insecure, random};

use super::State;

impl random::Host for State {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.meter.host_call(usize::try_from(len)?)?;
        random::Host::get_random_bytes(self.wasi.random(), len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        random::Host::get_random_u64(self.wasi.random())
    }
}

impl insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.meter.host_call(usize::try_from(len)?)?;
        insecure::Host::get_insecure_random_bytes(self.wasi.random(), len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        insecure::Host::get_insecure_random_u64(self.wasi.random())
    }
}
