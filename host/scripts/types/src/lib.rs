//! Takes the types off TypeScript. Every character that goes leaves a blank, so that what is left stands in
//! the line and column where its author wrote it.

use std::sync::{Arc, Mutex};

use swc_common::{
    SourceMap,
    errors::{DiagnosticBuilder, Emitter, Handler},
    sync::Lrc,
};
use swc_ts_fast_strip::{Mode, Options, operate};

wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "mixlab:script/types",
});

struct Types;

export!(Types);

impl Guest for Types {
    fn strip(source: String) -> Result<String, Vec<Fault>> {
        let files: Lrc<SourceMap> = Lrc::default();
        let faults = Faults {
            files: files.clone(),
            found: Arc::default(),
        };
        let found = faults.found.clone();
        let handler = Handler::with_emitter(false, false, Box::new(faults));
        let options = Options {
            module: Some(true),
            mode: Mode::StripOnly,
            ..Options::default()
        };
        operate(&files, &handler, source, options)
            .map(|output| output.code)
            .map_err(|error| {
                let mut found = found.lock().map(|mut found| std::mem::take(&mut *found));
                match &mut found {
                    Ok(found) if !found.is_empty() => std::mem::take(found),
                    _ => vec![Fault {
                        line: 1,
                        column: 1,
                        message: error.message,
                    }],
                }
            })
    }
}

/// Collects what is wrong with a source.
struct Faults {
    files: Lrc<SourceMap>,
    found: Arc<Mutex<Vec<Fault>>>,
}

impl Emitter for Faults {
    fn emit(&mut self, diagnostic: &mut DiagnosticBuilder<'_>) {
        let span = diagnostic.span.primary_span();
        let place = span.map(|span| self.files.lookup_char_pos(span.lo()));
        let (line, column) = place.map_or((1, 1), |place| (place.line, place.col.0 + 1));
        if let Ok(mut found) = self.found.lock() {
            found.push(Fault {
                line: line as u32,
                column: column as u32,
                message: diagnostic.message(),
            });
        }
    }
}
