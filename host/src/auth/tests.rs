use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, crypto};
use serde_json::json;

use super::*;
use crate::user::{MAX_ROLE_BYTES, MAX_ROLES, TokenClaims, UserId};

const SECRET: &[u8] = b"secret";

const NOW: u64 = 1_800_000_000;

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// A token of exactly these texts, signed with the secret whatever its header says.
fn written(header: &str, claims: &str) -> String {
    let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
    let signed = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signature = crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

fn verifier() -> Verifier {
    Verifier::new(
        SECRET,
        &config::Auth::default(),
        &Providers::none(),
        Arc::default(),
    )
}

fn verify(header: &str, claims: &str) -> Result<User, TokenError> {
    verifier().verify_at(&written(header, claims), NOW)
}

/// Whose a token is that has these claims, and expires in a minute unless they say otherwise.
fn user(claims: Value) -> Result<User, TokenError> {
    let mut all = json!({ "exp": NOW + 60 });
    all.as_object_mut()
        .unwrap()
        .extend(claims.as_object().unwrap().clone());
    verify(HEADER, &all.to_string())
}

fn code(result: Result<User, TokenError>) -> Option<&'static str> {
    result.err().map(|error| error.code())
}

#[test]
fn claims_are_found_under_their_usual_names() {
    let user1 = user(json!({"sub": "42", "username": "ada", "role": "admin"})).unwrap();
    let user2 = user(json!({"userId": 42, "name": "ada", "roles": ["admin"]})).unwrap();
    assert_eq!(user1, user2, "however the id is written");
    for user in [user1, user2] {
        assert_eq!(user.rooms(), ["user:42", "role:admin"]);
        assert_eq!(user.username.as_deref(), Some("ada"));
    }
    let both = user(json!({"id": 1, "role": "a", "roles": ["b", "a"]})).unwrap();
    assert_eq!(both.roles, ["a", "b"]);
}

#[test]
fn a_claim_that_is_not_understood_is_never_taken_for_none() {
    let (long_id, long_role) = ("x".repeat(129), "x".repeat(257));
    let longer = "x".repeat(1025);
    let many: Vec<String> = (0..257).map(|role| role.to_string()).collect();
    for claims in [
        json!({}),
        json!({ "sub": null }),
        json!({ "sub": null, "id": 1 }),
        json!({ "sub": "" }),
        json!({ "sub": 1.5 }),
        json!({ "sub": 1.0 }),
        json!({ "sub": 1e30 }),
        json!({ "sub": true }),
        json!({ "sub": {"id": 1} }),
        json!({ "sub": [1] }),
        json!({ "sub": "a\nb" }),
        json!({ "sub": "a\u{0}b" }),
        json!({ "sub": long_id }),
        json!({ "sub": 1, "username": 7 }),
        json!({ "sub": 1, "username": ["ada"] }),
        json!({ "sub": 1, "username": {} }),
        json!({ "sub": 1, "name": false }),
        json!({ "sub": 1, "name": longer }),
        json!({ "sub": 1, "role": 7 }),
        json!({ "sub": 1, "role": false }),
        json!({ "sub": 1, "role": {"admin": true} }),
        json!({ "sub": 1, "role": "" }),
        json!({ "sub": 1, "role": "a\nb" }),
        json!({ "sub": 1, "role": long_role }),
        json!({ "sub": 1, "roles": ["a", 7] }),
        json!({ "sub": 1, "roles": ["a", null] }),
        json!({ "sub": 1, "roles": ["a", ["b"]] }),
        json!({ "sub": 1, "role": "a", "roles": [{}] }),
        json!({ "sub": 1, "roles": many }),
        json!({ "sub": 1, "exp": null }),
        json!({ "sub": 1, "exp": (NOW + 60).to_string() }),
        json!({ "sub": 1, "exp": "tomorrow" }),
        json!({ "sub": 1, "exp": true }),
        json!({ "sub": 1, "exp": [NOW + 60] }),
        json!({ "sub": 1, "exp": -1 }),
        json!({ "sub": 1, "exp": -1.5 }),
        json!({ "sub": 1, "exp": (NOW + 60) * 1000 }),
        json!({ "sub": 1, "exp": u64::MAX }),
        json!({ "sub": 1, "exp": 1e300 }),
        json!({ "sub": 1, "nbf": null }),
        json!({ "sub": 1, "nbf": "0" }),
        json!({ "sub": 1, "nbf": -1 }),
        json!({ "sub": 1, "nbf": NOW + 6 }),
        json!({ "sub": 1, "nbf": NOW * 1000 }),
    ] {
        assert_eq!(code(user(claims.clone())), Some("unauthorized"), "{claims}");
    }
}

#[test]
fn a_token_has_a_bounded_number_of_roles_of_a_bounded_length() {
    let numbered = |count: usize| (0..count).map(|n| format!("role-{n}")).collect::<Vec<_>>();
    let with = |roles: &[String]| user(json!({"sub": 1, "roles": roles}));
    assert_eq!(
        with(&numbered(MAX_ROLES)).unwrap().roles,
        numbered(MAX_ROLES)
    );
    let repeated = [numbered(MAX_ROLES), numbered(MAX_ROLES)].concat();
    assert_eq!(with(&repeated).unwrap().roles, numbered(MAX_ROLES));
    assert!(with(&["x".repeat(MAX_ROLE_BYTES)]).is_ok());
    for (roles, reason) in [
        (numbered(MAX_ROLES + 1), "it has more than 256 roles"),
        (numbered(300_000), "it has more than 256 roles"),
        (
            vec!["x".repeat(MAX_ROLE_BYTES + 1)],
            "a role has more than 256 bytes",
        ),
    ] {
        let error = with(&roles).unwrap_err();
        assert_eq!(error.code(), "unauthorized");
        assert_eq!(
            error.to_string(),
            format!("the token is not valid: {reason}")
        );
    }
}

#[test]
fn what_may_be_left_out_may_also_be_null_and_lists_may_be_empty() {
    for claims in [
        json!({ "sub": 1, "username": null, "role": null, "roles": null }),
        json!({ "sub": 1, "username": "", "roles": [] }),
        json!({ "sub": 1, "iat": "long ago", "jti": {}, "admin": true }),
        json!({ "sub": 1, "aud": 7, "iss": [] }),
    ] {
        let user = user(claims).unwrap();
        assert_eq!((user.id.as_str(), user.roles.len()), ("1", 0));
    }
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    let exp = NOW + 60;
    for claims in [
        format!(r#"{{"sub":1,"exp":{exp},"exp":{exp}}}"#),
        format!(r#"{{"sub":1,"sub":2,"exp":{exp}}}"#),
        format!(r#"{{"sub":1,"role":"user","role":"admin","exp":{exp}}}"#),
        format!(r#"{{"sub":1,"role":"user","\u0072ole":"admin","exp":{exp}}}"#),
    ] {
        assert_eq!(
            code(verify(HEADER, &claims)),
            Some("unauthorized"),
            "{claims}"
        );
    }
}

#[test]
fn a_header_that_is_not_understood_is_refused() {
    let claims = json!({ "sub": 1, "exp": NOW + 60 }).to_string();
    for (header, good) in [
        (r#"{"alg":"HS256"}"#, true),
        (r#"{"alg":"HS256","typ":"at+jwt","kid":"7"}"#, true),
        (r#"{"alg":"HS256","x-mine":{"a":[1]}}"#, true),
        (r#"{"alg":"HS256","crit":["exp"]}"#, false),
        (r#"{"alg":"HS256","crit":["b64"],"b64":true}"#, false),
        (r#"{"alg":"HS256","crit":["x-mine"],"x-mine":1}"#, false),
        (r#"{"alg":"HS256","crit":[]}"#, false),
        (r#"{"alg":"HS256","crit":null}"#, false),
        (r#"{"alg":"HS256","crit":"exp"}"#, false),
        (r#"{"alg":"none"}"#, false),
        (r#"{"alg":"hs256"}"#, false),
        (r#"{"alg":"HS512"}"#, false),
        (r#"{"alg":"RS256"}"#, false),
        (r#"{"alg":["HS256"]}"#, false),
        (r#"{"alg":null}"#, false),
        (r#"{"typ":"JWT"}"#, false),
        (r#"{"alg":"none","alg":"HS256"}"#, false),
        (r#"{"alg":"HS256","alg":"none"}"#, false),
        (r#"["HS256"]"#, false),
        ("null", false),
        ("", false),
        (r#"{"alg":"HS256"} {}"#, false),
    ] {
        let expected = (!good).then_some("unauthorized");
        assert_eq!(code(verify(header, &claims)), expected, "{header}");
    }
}

#[test]
fn claims_that_are_no_object_are_refused() {
    for claims in ["", "null", "[]", "1", "\"sub\"", "{", "{}{}", "\u{feff}{}"] {
        assert_eq!(
            code(verify(HEADER, claims)),
            Some("unauthorized"),
            "{claims}"
        );
    }
}

#[test]
fn a_token_is_good_until_its_expiry_and_the_leeway() {
    let at = |exp: Value| code(verify(HEADER, &json!({ "sub": 1, "exp": exp }).to_string()));
    assert_eq!(at(json!(NOW + 60)), None);
    assert_eq!(at(json!(NOW as f64 + 0.5)), None, "RFC 7519 has fractions");
    assert_eq!(at(json!(NOW - 4)), None, "within the leeway");
    assert_eq!(at(json!(NOW as f64 - 4.5)), Some("token_expired"));
    assert_eq!(
        at(json!(NOW - 5)),
        Some("token_expired"),
        "on its end or after"
    );
    assert_eq!(at(json!(0)), Some("token_expired"));
    assert_eq!(
        user(json!({ "sub": 1, "nbf": NOW + 5 }))
            .unwrap()
            .token
            .expires,
        Some(NOW + 60)
    );
}

#[test]
fn a_token_that_was_never_good_has_not_expired() {
    let expired = json!({ "exp": NOW - 60 });
    for claims in [
        json!({}),
        json!({ "sub": 1, "role": 7 }),
        json!({ "sub": 1, "nbf": "0" }),
    ] {
        let mut claims = claims;
        claims["exp"] = expired["exp"].clone();
        assert_eq!(
            code(verify(HEADER, &claims.to_string())),
            Some("unauthorized"),
            "{claims}"
        );
    }
}

#[test]
fn a_token_without_an_expiry_is_good_only_where_that_is_configured() {
    let token = written(HEADER, r#"{"sub":1}"#);
    assert_eq!(
        code(verifier().verify_at(&token, NOW)),
        Some("unauthorized")
    );
    let lenient = config::Auth {
        require_exp: false,
        ..Default::default()
    };
    let lenient = Verifier::new(SECRET, &lenient, &Providers::none(), Arc::default());
    assert_eq!(lenient.verify_at(&token, NOW).unwrap().token.expires, None);
    let malformed = written(HEADER, r#"{"sub":1,"exp":"never"}"#);
    assert_eq!(
        code(lenient.verify_at(&malformed, NOW)),
        Some("unauthorized")
    );
}

#[test]
fn issuer_and_audience_are_named_as_they_are_configured() {
    let config = config::Auth {
        issuer: Some("us".into()),
        audience: Some("them".into()),
        ..Default::default()
    };
    let verifier = Verifier::new(SECRET, &config, &Providers::none(), Arc::default());
    for (iss, aud, good) in [
        (json!("us"), json!("them"), true),
        (json!("us"), json!(["others", "them"]), true),
        (json!("US"), json!("them"), false),
        (json!(["us"]), json!("them"), false),
        (json!(null), json!("them"), false),
        (json!("us"), json!("other"), false),
        (json!("us"), json!([]), false),
        (json!("us"), json!(["them", 7]), false),
        (json!("us"), json!({"them": true}), false),
        (json!("us"), json!(null), false),
    ] {
        let claims = json!({ "sub": 1, "exp": NOW + 60, "iss": iss, "aud": aud });
        let token = written(HEADER, &claims.to_string());
        let expected = (!good).then_some("unauthorized");
        assert_eq!(code(verifier.verify_at(&token, NOW)), expected, "{claims}");
    }
}

#[test]
fn a_token_has_three_parts_and_the_signature_of_its_key() {
    let claims = json!({ "sub": 1, "exp": NOW + 60 }).to_string();
    let good = written(HEADER, &claims);
    assert_eq!(code(verifier().verify_at(&good, NOW)), None);
    let other = Verifier::new(
        b"other",
        &config::Auth::default(),
        &Providers::none(),
        Arc::default(),
    );
    assert_eq!(code(other.verify_at(&good, NOW)), Some("unauthorized"));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOjEsImV4cCI6OTk5OTk5OTk5OX0.";
    for token in [
        none,
        "",
        "garbage",
        "a.b.c",
        "...",
        signed,
        &format!("{signed}."),
        &format!("{good}."),
        &format!(".{good}"),
        &format!("{good}="),
        &format!("{good}\n"),
        &format!(" {good}"),
        &format!("{signed}.{}", &signature[1..]),
        &format!("{signed}.{signature}{signature}"),
        &format!("{signed}.x.{signature}"),
    ] {
        assert_eq!(
            code(verifier().verify_at(token, NOW)),
            Some("unauthorized"),
            "{token}"
        );
    }
}

#[test]
fn a_signed_token_names_its_user() {
    let config = config::Auth {
        issuer: Some("us".into()),
        audience: Some("them".into()),
        ..Default::default()
    };
    let user = User {
        id: UserId::from_text("42").unwrap(),
        username: Some("ada".into()),
        roles: vec!["admin".into(), "staff".into()],
        token: TokenClaims::default(),
    };
    let token = sign(&user, SECRET, Duration::from_secs(60), &config);
    let verified = Verifier::new(SECRET, &config, &Providers::none(), Arc::default())
        .verify(&token)
        .unwrap();
    assert!(
        verified
            .token
            .expires
            .is_some_and(|expires| expires > NOW / 2)
    );
    let token = TokenClaims::default();
    assert_eq!(User { token, ..verified }, user);
}
