//! Payments: the provider tells of them by webhooks, they are kept, and whoever subscribed sees them at once.
//!
//! The host has checked the signature before a webhook comes here, and that it has not come before: what
//! this plugin stores and sends happens once for each, however often it is delivered. The bodies are Stripe's.
use mixlab_plugin::prelude::*;
use mixlab_plugin::webhook::{Request, Response};

mixlab_plugin::export!(plugin, webhooks);

fn plugin(_config: &Config) -> Result<Plugin, String> {
    let get = Event::new("payment:get")
        .limit(Scope::User, "20/10s")
        .max_bytes(512)
        .handle(get);
    Ok(
        Plugin::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .event(get)
            .webhook(told),
    )
}

/// An event of the provider.
#[data(Deserialize)]
struct Told {
    #[serde(rename = "type")]
    event: String,
    /// When, in seconds since 1970.
    created: u64,
    data: About,
}

#[data(Deserialize)]
struct About {
    object: Value,
}

/// A payment as the provider knows it, as far as it matters here.
#[data(Deserialize)]
struct Intent {
    #[serde(flatten)]
    payment: Payment,
    #[serde(default)]
    metadata: Metadata,
}

/// What the shop said when it began the payment.
#[data(Deserialize)]
#[derive(Default)]
struct Metadata {
    /// The user who pays.
    user_id: Option<String>,
}

/// A payment as clients see it.
#[data]
struct Payment {
    id: String,
    /// In the smallest unit of the currency.
    amount: u64,
    currency: String,
    /// `processing`, `succeeded`, `canceled` and the like.
    status: String,
}

#[data(Serialize, Deserialize)]
struct Stored {
    payment: Payment,
    /// Who may ask for it, beside admins.
    payer: Option<String>,
    /// When the provider said so.
    told_at: u64,
}

impl Payment {
    fn is_over(&self) -> bool {
        matches!(&*self.status, "succeeded" | "canceled")
    }
}

impl Stored {
    /// What is told later counts, and within a second what ends the payment.
    fn order(&self) -> (u64, bool) {
        (self.told_at, self.payment.is_over())
    }
}

fn key(id: &str) -> String {
    format!("payment:{id}")
}

fn told(cx: &Context, request: Request) -> Result<Response, Rejection> {
    let done = Ok(Response::new(204));
    let told: Told = request.json()?;
    if !told.event.starts_with("payment_intent.") {
        return done;
    }
    let intent: Intent = mixlab_plugin::serde_json::from_value(told.data.object)
        .map_err(|error| Rejection::invalid_payload(format!("data.object: {error}")))?;
    let new = Stored {
        payment: intent.payment,
        payer: intent.metadata.user_id,
        told_at: told.created,
    };
    let key = key(&new.payment.id);
    let former: Option<Stored> = cx.store().get(&key)?;
    // Webhooks come in any order.
    if former.is_some_and(|former| former.order() > new.order()) {
        return done;
    }
    cx.store().set(&key, &new)?;
    cx.broadcast_payment_update(&new.payment)?;
    done
}

#[data]
struct Wanted {
    #[schemars(length(min = 1, max = 255))]
    id: String,
}

/// Whoever may not see a payment does not learn that there is one.
fn get(cx: &Context, Wanted { id }: Wanted) -> Result<Payment, Rejection> {
    let user = cx.user()?;
    let is_admin = user.roles.iter().any(|role| role == "admin");
    let stored: Option<Stored> = cx.store().get(&key(&id))?;
    match stored {
        Some(stored) if is_admin || stored.payer.as_ref() == Some(&user.id) => Ok(stored.payment),
        _ => Err(Rejection::new("not_found", "There is no such payment")),
    }
}
