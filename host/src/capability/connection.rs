//! `mixlab:plugin/connection`: the connection that a call is for, told as far as it is asked for.

use super::State;
use crate::{
    connection::Connection,
    guest::{self, Error, connection},
    user::User,
};

impl connection::Host for State {
    fn id(&mut self) -> wasmtime::Result<Result<String, Error>> {
        self.meter.host_call(0)?;
        Ok(self.connection().map(|connection| connection.id.clone()))
    }

    fn namespace(&mut self) -> wasmtime::Result<Result<String, Error>> {
        self.meter.host_call(0)?;
        Ok(self
            .connection()
            .map(|connection| connection.namespace().to_owned()))
    }

    fn address(&mut self) -> wasmtime::Result<Result<String, Error>> {
        self.meter.host_call(0)?;
        Ok(self
            .connection()
            .map(|connection| connection.address.to_string()))
    }

    fn user(&mut self) -> wasmtime::Result<Result<Option<guest::User>, Error>> {
        self.meter.host_call(0)?;
        let identity = self.identity.as_ref().ok_or(Error::NoConnection);
        Ok(identity.map(|identity| identity.user.as_ref().map(told_user)))
    }

    fn recovered(&mut self) -> wasmtime::Result<Result<bool, Error>> {
        self.meter.host_call(0)?;
        Ok(self.connection().map(|connection| connection.recovered))
    }
}

/// All that there is to know of a connection.
pub(super) fn told(connection: &Connection) -> guest::Connection {
    let identity = connection.identity();
    guest::Connection {
        id: connection.id.clone(),
        namespace: connection.namespace().to_owned(),
        address: connection.address.to_string(),
        user: identity.user.as_ref().map(told_user),
        recovered: connection.recovered,
    }
}

pub(super) fn told_user(user: &User) -> guest::User {
    guest::User {
        id: user.id.as_str().to_owned(),
        username: user.username.clone(),
        roles: user.roles.clone(),
    }
}
