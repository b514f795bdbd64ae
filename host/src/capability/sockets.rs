//! `mixlab:plugin/sockets`: what a client said when it connected, and the end of connections.

use super::{State, denied};
use crate::{
    effect::Effect,
    guest::{
        Error,
        sockets::{self, Request},
        types,
    },
};

impl sockets::Host for State {
    fn handshake(&mut self) -> wasmtime::Result<Result<Request, Error>> {
        self.meter.host_call(0)?;
        Ok(self.granted_handshake())
    }

    fn disconnect(
        &mut self,
        target: types::Target,
        close: bool,
    ) -> wasmtime::Result<Result<(), Error>> {
        self.meter.host_call(0)?;
        Ok(self.end_connections(target, close))
    }
}

impl State {
    fn granted_handshake(&self) -> Result<Request, Error> {
        let grants = self.grants();
        if !grants.handshake() {
            return Err(denied("handshake"));
        }
        let Some(said) = self.connection()?.handshake() else {
            return Ok(Request {
                query: Vec::new(),
                headers: Vec::new(),
            });
        };
        let headers = said.headers.iter();
        Ok(Request {
            query: said.query.to_vec(),
            headers: headers
                .filter(|(name, _)| grants.header(name))
                .cloned()
                .collect(),
        })
    }

    fn end_connections(&mut self, target: types::Target, close: bool) -> Result<(), Error> {
        if !self.grants().disconnect() {
            return Err(denied("disconnect"));
        }
        let selection = match target {
            types::Target::Sender => None,
            types::Target::Sockets(selection) => Some(self.granted_selection(selection)?),
        };
        self.record(Effect::Disconnect { selection, close })
    }
}
