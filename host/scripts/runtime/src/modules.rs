//! Finds what scripts import: the module `mixlab`, and files beside the script.

use rquickjs::{
    Ctx, Error, Module, Result,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
};

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use crate::{mixlab::script::source, natives};

/// What is a part of this component. Scripts may import the first; the others are between these modules.
const OWN: [(&str, &str); 11] = [
    ("mixlab", include_str!("../js/mixlab.js")),
    ("mixlab:arguments", include_str!("../js/arguments.js")),
    ("mixlab:call", include_str!("../js/call.js")),
    ("mixlab:context", include_str!("../js/context.js")),
    ("mixlab:entry", include_str!("../js/entry.js")),
    ("mixlab:globals", include_str!("../js/globals.js")),
    ("mixlab:http", include_str!("../js/http.js")),
    ("mixlab:missing", include_str!("../js/missing.js")),
    ("mixlab:plugin", include_str!("../js/plugin.js")),
    ("mixlab:schema", include_str!("../js/schema.js")),
    ("mixlab:url", include_str!("../js/url.js")),
];

/// The module of the functions that `js/` asks the host with.
pub const NATIVES: &str = "mixlab:natives";

/// The files that were found, by their names, until they are loaded.
type Found = Rc<RefCell<HashMap<String, String>>>;

/// Says what an import stands for, and then loads it.
#[derive(Clone, Default)]
pub struct Modules {
    found: Found,
}

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        importer: &str,
        specifier: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        // Of a part of this component, or by the engine, for which the importer has no name.
        let is_inner = importer.is_empty() || importer.starts_with("mixlab");
        if specifier == "mixlab" || is_inner && specifier.starts_with("mixlab:") {
            return Ok(specifier.to_owned());
        }
        match source::resolve(importer, specifier) {
            Ok(file) => {
                let name = file.name;
                self.found.borrow_mut().insert(name.clone(), file.text);
                Ok(name)
            }
            // It says where the import is.
            Err(reason) => Err(rquickjs::Exception::throw_syntax(ctx, &reason)),
        }
    }
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        if name == NATIVES {
            return Module::declare_def::<natives::Natives, _>(ctx.clone(), name);
        }
        if let Some((_, text)) = OWN.iter().find(|(own, _)| *own == name) {
            return Module::declare(ctx.clone(), name, *text);
        }
        let text = self.found.borrow_mut().remove(name);
        let text = text.ok_or_else(|| Error::new_loading(name))?;
        match name.ends_with(".json") {
            true => Module::declare(ctx.clone(), name, format!("export default {text}")),
            false => Module::declare(ctx.clone(), name, text),
        }
    }
}
