//! Forged and malformed tokens, each with the reason for which a verifier with the secret refuses it.

use aws_lc_rs::hmac;
use serde_json::{Value, json};
use tierkeep_identity::JwtRefused;

use super::{
    NOW, RSA, SECRET, SUBJECT, base64url, claims, header_of, hmac_signed, hs256, sha256, token,
    unsigned, with, with_signature, without,
};

pub(crate) struct Hostile {
    pub(crate) what: &'static str,
    pub(crate) token: String,
    pub(crate) expected: JwtRefused,
}

fn hostile(what: &'static str, token: impl Into<String>, expected: JwtRefused) -> Hostile {
    Hostile {
        what,
        token: token.into(),
        expected,
    }
}

/// Correctly signed, but with this header.
pub(crate) fn headed(header: &Value) -> String {
    hs256(header, claims(), SECRET)
}

/// Correctly signed, but with this payload as it is written.
pub(crate) fn saying(payload: &str) -> String {
    hs256(header_of("HS256"), payload, SECRET)
}

fn of_shape() -> Vec<Hostile> {
    use JwtRefused::{Malformed, Signature, TooLong};
    let good = token(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = message.split_once('.').unwrap();
    let admin = base64url(with("role", "admin").to_string());
    vec![
        hostile("empty", "", Malformed),
        hostile("one dot", ".", Malformed),
        hostile("two dots", "..", JwtRefused::Header),
        hostile("dots only", ".....", Malformed),
        hostile("no dot", "token", Malformed),
        hostile("header alone", header, Malformed),
        hostile("two segments", message, Malformed),
        hostile("no signature", format!("{message}."), Signature),
        hostile("four segments", format!("{good}.{signature}"), Malformed),
        hostile(
            "five segments, as JWE has",
            format!("{good}.a.b"),
            Malformed,
        ),
        hostile("leading dot", format!(".{good}"), Malformed),
        hostile("leading space", format!(" {good}"), Malformed),
        hostile("trailing newline", format!("{good}\n"), Signature),
        hostile("space inside", good.replacen('.', " .", 1), Malformed),
        hostile("NUL inside", good.replacen('.', "\0.", 1), Malformed),
        hostile("other scripts", "ключ.ключ.ключ", Malformed),
        hostile(
            "padded base64",
            format!("{header}=.{payload}.{signature}"),
            Malformed,
        ),
        hostile("truncated signature", &good[..good.len() - 4], Signature),
        hostile(
            "truncated to half",
            &good[..good.len() / 2],
            JwtRefused::Malformed,
        ),
        hostile(
            "swapped payload",
            format!("{header}.{admin}.{signature}"),
            Signature,
        ),
        hostile(
            "signature of another",
            {
                let other = token(&with("sub", "0".repeat(24)));
                format!("{message}.{}", other.rsplit_once('.').unwrap().1)
            },
            Signature,
        ),
        hostile(
            "bare digest for a signature",
            with_signature(message, sha256(message.as_bytes())),
            Signature,
        ),
        hostile(
            "zeros for a signature",
            with_signature(message, [0; 32]),
            Signature,
        ),
        hostile("200 kB of one letter", "A".repeat(200_000), TooLong),
        hostile(
            "200 kB, correctly signed",
            token(&with("x", "A".repeat(150_000))),
            TooLong,
        ),
        hostile(
            "a correctly signed byte too many",
            {
                let fill = |count| token(&with("x", "A".repeat(count)));
                (11_000..13_000)
                    .map(fill)
                    .find(|token| token.len() > 16 * 1024)
                    .unwrap()
            },
            TooLong,
        ),
    ]
}

#[expect(
    clippy::too_many_lines,
    reason = "a table, a line or two for each token"
)]
fn of_header() -> Vec<Hostile> {
    use JwtRefused::{Algorithm, Critical, Header, Signature};
    let stolen = "another secret, of 32 bytes too..";
    let mut list: Vec<Hostile> = [
        "none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "HS-256",
    ]
    .into_iter()
    .flat_map(|alg| {
        let message = unsigned(header_of(alg), claims());
        [
            hostile(
                "alg of another spelling, unsigned",
                format!("{message}."),
                Algorithm,
            ),
            hostile(
                "alg of another spelling",
                headed(&header_of(alg)),
                Algorithm,
            ),
        ]
    })
    .collect();
    let hs384 = hmac_signed(hmac::HMAC_SHA384, header_of("HS384"), claims(), SECRET);
    let hs512 = hmac_signed(hmac::HMAC_SHA512, header_of("HS512"), claims(), SECRET);
    let hs512_as_256 = hmac_signed(hmac::HMAC_SHA512, header_of("HS256"), claims(), SECRET);
    let jwk = json!({"alg": "HS256", "jwk": {"kty": "oct", "k": base64url(stolen)}});
    list.extend([
        hostile("HS384", hs384, Algorithm),
        hostile("HS512", hs512, Algorithm),
        hostile("HS512 that says HS256", hs512_as_256, Signature),
        hostile("RS256", RSA.sign(header_of("RS256"), claims()), Algorithm),
        hostile(
            "RSA signature that says HS256",
            RSA.sign(header_of("HS256"), claims()),
            Signature,
        ),
        hostile(
            "another secret",
            hs256(header_of("HS256"), claims(), stolen),
            Signature,
        ),
        hostile(
            "empty secret",
            hs256(header_of("HS256"), claims(), ""),
            Signature,
        ),
        hostile("embedded jwk", hs256(jwk, claims(), stolen), Signature),
        hostile(
            "jku",
            hs256(
                json!({"alg": "HS256", "jku": "http://127.0.0.1/keys"}),
                claims(),
                stolen,
            ),
            Signature,
        ),
        hostile(
            "x5u",
            hs256(
                json!({"alg": "HS256", "x5u": "file:///dev/null"}),
                claims(),
                stolen,
            ),
            Signature,
        ),
        hostile(
            "x5c",
            hs256(json!({"alg": "HS256", "x5c": ["AAAA"]}), claims(), stolen),
            Signature,
        ),
        hostile(
            "kid as a path",
            hs256(
                json!({"alg": "HS256", "kid": "../../../dev/null"}),
                claims(),
                "",
            ),
            Signature,
        ),
        hostile(
            "kid as SQL",
            hs256(
                json!({"alg": "HS256", "kid": "' UNION SELECT 'k"}),
                claims(),
                "k",
            ),
            Signature,
        ),
        hostile(
            "kid as an object",
            headed(&json!({"alg": "HS256", "kid": {"$ne": 1}})),
            Header,
        ),
        hostile(
            "crit",
            headed(&json!({"alg": "HS256", "crit": ["b64"], "b64": false})),
            Critical,
        ),
        hostile(
            "crit, empty",
            headed(&json!({"alg": "HS256", "crit": []})),
            Critical,
        ),
        hostile(
            "crit, null",
            headed(&json!({"alg": "HS256", "crit": null})),
            Critical,
        ),
        hostile("no alg", headed(&json!({"typ": "JWT"})), Header),
        hostile("alg null", headed(&json!({"alg": null})), Header),
        hostile(
            "alg a list",
            headed(&json!({"alg": ["HS256", "none"]})),
            Header,
        ),
        hostile(
            "alg twice",
            hs256(r#"{"alg":"none","alg":"HS256"}"#, claims(), SECRET),
            Header,
        ),
        hostile(
            "header a list",
            headed(&json!(["HS256", null, false])),
            Header,
        ),
        hostile("header a text", headed(&json!("HS256")), Header),
        hostile("header no JSON", hs256("HS256", claims(), SECRET), Header),
        hostile(
            "header nested deeply",
            hs256("[".repeat(9000), claims(), SECRET),
            Header,
        ),
        hostile(
            "more after the header",
            hs256(r#"{"alg":"HS256"}{}"#, claims(), SECRET),
            Header,
        ),
    ]);
    list
}

#[expect(
    clippy::too_many_lines,
    reason = "a table, a line or two for each token"
)]
fn of_claims() -> Vec<Hostile> {
    use JwtRefused::{Claims, ExpiryMissing, Subject, TimeMalformed, Type};
    let dates = |value: Value| token(&with("exp", value));
    let subject = |value: Value| token(&with("sub", value));
    let repeated = claims()
        .to_string()
        .replacen('{', r#"{"sub":"000000000000000000000000","#, 1);
    vec![
        hostile("expired", dates(json!(NOW - 1)), JwtRefused::Expired),
        hostile("expired in 1970", dates(json!(0)), JwtRefused::Expired),
        hostile("exp negative", dates(json!(-1)), JwtRefused::Expired),
        hostile("exp very negative", dates(json!(i64::MIN)), TimeMalformed),
        hostile(
            "exp in milliseconds too far",
            dates(json!(u64::MAX)),
            TimeMalformed,
        ),
        hostile("exp missing", token(&without("exp")), ExpiryMissing),
        hostile("exp null", dates(json!(null)), ExpiryMissing),
        hostile(
            "exp as text",
            dates(json!((NOW + 60).to_string())),
            TimeMalformed,
        ),
        hostile(
            "exp as a date",
            dates(json!("2999-01-01T00:00:00Z")),
            TimeMalformed,
        ),
        hostile("exp as a huge float", dates(json!(1e300)), TimeMalformed),
        hostile(
            "exp past all floats",
            saying(
                &claims()
                    .to_string()
                    .replace(&(NOW + 3600).to_string(), "1e999"),
            ),
            Claims,
        ),
        hostile("exp as a list", dates(json!([NOW + 60])), TimeMalformed),
        hostile("exp as an object", dates(json!({"$gt": 0})), TimeMalformed),
        hostile("exp true", dates(json!(true)), TimeMalformed),
        hostile(
            "far nbf",
            token(&with("nbf", NOW + 61)),
            JwtRefused::NotYetValid,
        ),
        hostile("nbf as text", token(&with("nbf", "0")), TimeMalformed),
        hostile(
            "future iat",
            token(&with("iat", NOW + 61)),
            JwtRefused::IssuedInFuture,
        ),
        hostile("iat as text", token(&with("iat", "0")), TimeMalformed),
        hostile("refresh token", token(&with("type", "refresh")), Type),
        hostile("type missing", token(&without("type")), Type),
        hostile("type in capitals", token(&with("type", "Access")), Type),
        hostile("type a list", token(&with("type", json!(["access"]))), Type),
        hostile("type null", token(&with("type", json!(null))), Type),
        hostile("sub missing", token(&without("sub")), Subject),
        hostile("sub an operator", subject(json!({"$ne": null})), Subject),
        hostile("sub a pattern", subject(json!({"$regex": ".*"})), Subject),
        hostile("sub a list", subject(json!([SUBJECT])), Subject),
        hostile("sub a number", subject(json!(507)), Subject),
        hostile("sub empty", subject(json!("")), Subject),
        hostile(
            "sub with NUL",
            subject(json!(format!("{SUBJECT}\0"))),
            Subject,
        ),
        hostile(
            "sub with NUL inside",
            subject(json!("507f1f77bcf8\u{0}cd799439011")),
            Subject,
        ),
        hostile(
            "sub a path",
            subject(json!("../../../../etc/passwd/x")),
            Subject,
        ),
        hostile(
            "sub an e-mail address",
            subject(json!("someone.else@example.org")),
            Subject,
        ),
        hostile(
            "sub with prefix",
            subject(json!(format!("internal_{SUBJECT}"))),
            Subject,
        ),
        hostile("sub of 23 digits", subject(json!(&SUBJECT[1..])), Subject),
        hostile(
            "sub of 25 digits",
            subject(json!(format!("{SUBJECT}0"))),
            Subject,
        ),
        hostile(
            "sub of wide digits",
            subject(json!("５".repeat(8))),
            Subject,
        ),
        hostile(
            "sub with a space",
            subject(json!(format!(" {}", &SUBJECT[1..]))),
            Subject,
        ),
        hostile("sub twice", saying(&repeated), Claims),
        hostile(
            "payload a list",
            saying(&json!(["access", SUBJECT, NOW + 60]).to_string()),
            Claims,
        ),
        hostile("payload a text", saying("\"access\""), Claims),
        hostile("payload empty", saying(""), Claims),
        hostile("payload an empty object", saying("{}"), ExpiryMissing),
        hostile("payload no JSON", saying("{'sub': 1}"), Claims),
        hostile(
            "payload no UTF-8",
            {
                let message = format!(
                    "{}.{}",
                    base64url(r#"{"alg":"HS256"}"#),
                    base64url(b"{\"sub\":\"\xff\"}")
                );
                let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
                with_signature(&message, hmac::sign(&key, message.as_bytes()))
            },
            Claims,
        ),
        hostile(
            "more after the payload",
            saying(&format!("{}{{}}", claims())),
            Claims,
        ),
        hostile(
            "payload nested deeply",
            saying(&format!(r#"{{"sub":{}"#, "[".repeat(9000))),
            Claims,
        ),
    ]
}

/// All of them.
pub(crate) fn all() -> Vec<Hostile> {
    of_shape()
        .into_iter()
        .chain(of_header())
        .chain(of_claims())
        .collect()
}
