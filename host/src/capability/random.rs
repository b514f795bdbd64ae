//! `wasi:random`: what a guest is given in the number that it asks for, so it counts as if it came
//! from the guest.

use wasmtime_wasi::{
    p2::bindings::random::{insecure, random},
    random::WasiRandomCtx,
};

use super::State;

impl random::Host for State {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.meter.host_call(usize::try_from(len)?)?;
        self.random_bytes("random", len, |context| {
            random::Host::get_random_bytes(context, len)
        })
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_number("random.u64", random::Host::get_random_u64)
    }
}

impl insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.meter.host_call(usize::try_from(len)?)?;
        self.random_bytes("random.insecure", len, |context| {
            insecure::Host::get_insecure_random_bytes(context, len)
        })
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random_number(
            "random.insecure.u64",
            insecure::Host::get_insecure_random_u64,
        )
    }
}

impl State {
    fn random_bytes(
        &mut self,
        ask: &str,
        len: u64,
        host: impl FnOnce(&mut WasiRandomCtx) -> wasmtime::Result<Vec<u8>>,
    ) -> wasmtime::Result<Vec<u8>> {
        let context = self.wasi.random();
        match &self.tape {
            Some(tape) => tape.random(ask, len, || host(context)),
            None => host(context),
        }
    }

    fn random_number(
        &mut self,
        ask: &str,
        host: impl FnOnce(&mut WasiRandomCtx) -> wasmtime::Result<u64>,
    ) -> wasmtime::Result<u64> {
        let context = self.wasi.random();
        let Some(tape) = &self.tape else {
            return host(context);
        };
        let number = host(context)?;
        // A number that is not in the record is the same in every replay.
        Ok(tape.plain(ask, || number, |_| 0))
    }
}
