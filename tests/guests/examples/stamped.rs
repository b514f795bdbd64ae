//! Answers with the version that stands in its own file, where a test can change it without a
//! compiler: eight digits after `STAMP:`.
use mixlab_guests::prelude::*;

mixlab_plugin::export!(plugin);

static STAMP: [u8; 14] = *b"STAMP:00000001";

#[derive(Serialize, JsonSchema)]
struct Stamped {
    version: u32,
    data: Value,
}

fn plugin(_: &Config) -> Result<Plugin, String> {
    let plugin = guest("stamped", |event| {
        event.handle(|_: &Context, data| Ok(stamped(data)))
    });
    let slow = Event::new("stamped:slow").anyone();
    let limited = Event::new("stamped:limited")
        .anyone()
        .limit(Scope::Socket, "3/1h");
    Ok(plugin
        .event(slow.handle(sleep))
        .event(limited.handle(|_: &Context, data| Ok(stamped(data)))))
}

/// Sleeps for so many milliseconds, without using the CPU.
fn sleep(_: &Context, ms: u32) -> Result<Stamped, Rejection> {
    std::thread::sleep(Duration::from_millis(ms.into()));
    Ok(stamped(ms.into()))
}

fn stamped(data: Value) -> Stamped {
    // Opaque, so that it is read from the file's data and not compiled into the code.
    let stamp = std::hint::black_box(&STAMP);
    let digits = stamp[6..].iter();
    Stamped {
        version: digits.fold(0, |version, digit| version * 10 + u32::from(digit - b'0')),
        data,
    }
}
