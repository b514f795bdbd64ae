//! What wit-bindgen makes of the contract. Plugins use the types that the crate root re-exports;
//! the module is public because the export macros name it, and for guests that must misbehave.

wit_bindgen::generate!({
    path: "../../wit",
    world: "mixlab:plugin/plugin",
    pub_export_macro: true,
    export_macro_name: "export_plugin",
    default_bindings_module: "mixlab_plugin::bindings",
    generate_all,
});

/// The optional export. It is a world of its own so that `export!` can add it: the linker merges
/// the worlds of a component, and a plugin without connection hooks does not export them.
pub mod hooks {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package mixlab:sdk;
            world hooks { export mixlab:plugin/connections@0.2.0; }
        ",
        world: "mixlab:sdk/hooks",
        with: { "mixlab:plugin/types@0.2.0": super::mixlab::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_hooks",
        default_bindings_module: "mixlab_plugin::bindings::hooks",
    });
}

/// The optional export of plugins with timers, for the same reason.
pub mod timers {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package mixlab:sdk;
            world timers { export mixlab:plugin/timer-handler@0.2.0; }
        ",
        world: "mixlab:sdk/timers",
        with: { "mixlab:plugin/types@0.2.0": super::mixlab::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_timers",
        default_bindings_module: "mixlab_plugin::bindings::timers",
    });
}

/// The optional export of plugins that filter events of others, for the same reason.
pub mod filters {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package mixlab:sdk;
            world filters { export mixlab:plugin/filters@0.2.0; }
        ",
        world: "mixlab:sdk/filters",
        with: { "mixlab:plugin/types@0.2.0": super::mixlab::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_filters",
        default_bindings_module: "mixlab_plugin::bindings::filters",
    });
}

/// The optional export of plugins that take webhooks, for the same reason.
pub mod webhooks {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package mixlab:sdk;
            world webhooks { export mixlab:plugin/webhooks@0.2.0; }
        ",
        world: "mixlab:sdk/webhooks",
        with: { "mixlab:plugin/types@0.2.0": super::mixlab::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_webhooks",
        default_bindings_module: "mixlab_plugin::bindings::webhooks",
    });
}

/// The optional export of plugins that migrate what they have stored, for the same reason.
pub mod migrations {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package mixlab:sdk;
            world migrations { export mixlab:plugin/migrations@0.2.0; }
        ",
        world: "mixlab:sdk/migrations",
        with: { "mixlab:plugin/types@0.2.0": super::mixlab::plugin::types },
        pub_export_macro: true,
        export_macro_name: "export_migrations",
        default_bindings_module: "mixlab_plugin::bindings::migrations",
    });
}
