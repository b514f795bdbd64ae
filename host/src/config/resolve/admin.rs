//! `[admin]`: who may log in, and where.

use super::Resolver;
use crate::config::sections::admin::AdminFile;
use crate::config::{Admin, PasswordHash, Secret};
use crate::namespace::{MAIN_NAMESPACE, is_namespace};

impl Resolver<'_> {
    /// There are pages where something is said of them.
    pub(super) fn admin(&mut self, file: AdminFile) -> Option<Admin> {
        if file.is_empty() {
            return None;
        }
        let username = self.required("admin", "username", file.username);
        let password = self.required("admin", "password", file.password);
        if let Some(username) = &username {
            self.check("admin.username", !username.is_empty(), "must not be empty");
        }
        let password = password.and_then(|hash| self.password(&hash));
        let namespace = file.namespace;
        let namespace = namespace.unwrap_or_else(|| Admin::NAMESPACE.to_owned());
        let is_one = is_namespace(&namespace) && !namespace.contains('*');
        self.check(
            "admin.namespace",
            is_one && namespace != MAIN_NAMESPACE,
            "expected the name of a namespace that nobody else serves, like \"/admin\"",
        );
        Some(Admin {
            username: username?,
            password: password?,
            namespace,
            readonly: file.readonly.unwrap_or(true),
            mode: file.mode.unwrap_or_default(),
        })
    }

    fn password(&mut self, hash: &Secret) -> Option<PasswordHash> {
        let hash = PasswordHash::parse(hash.expose());
        if let Err(message) = &hash {
            self.check("admin.password", false, message);
        }
        hash.ok()
    }
}
