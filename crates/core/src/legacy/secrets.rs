//! Secrets in legacy documents: they are left behind, at any depth, and counted. Must never be quoted.

use bson::raw::{RawArray, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf};

use crate::document::Edit;

/// Names of fields that hold secrets, without `_` and `-`, in lower case.
const NAMES: [&str; 20] = [
    "accesstoken",
    "apikey",
    "authtoken",
    "clientsecret",
    "githubaccesstoken",
    "githubrefreshtoken",
    "githubtoken",
    "hashedpassword",
    "idtoken",
    "jwt",
    "jwttoken",
    "oauthtoken",
    "password",
    "passwordhash",
    "privatekey",
    "refreshtoken",
    "secret",
    "secretkey",
    "sessiontoken",
    "token",
];

/// The spellings that are counted at the top of documents when they are first looked at.
pub const FIELDS: [&str; 36] = [
    "access_token",
    "accessToken",
    "api_key",
    "apiKey",
    "auth_token",
    "authToken",
    "client_secret",
    "clientSecret",
    "github_access_token",
    "githubAccessToken",
    "github_refresh_token",
    "githubRefreshToken",
    "github_token",
    "githubToken",
    "hashed_password",
    "hashedPassword",
    "id_token",
    "idToken",
    "jwt",
    "jwt_token",
    "jwtToken",
    "oauth_token",
    "oauthToken",
    "password",
    "password_hash",
    "passwordHash",
    "private_key",
    "privateKey",
    "refresh_token",
    "refreshToken",
    "secret",
    "secret_key",
    "secretKey",
    "session_token",
    "sessionToken",
    "token",
];

fn is_secret(name: &str, value: &RawBsonRef<'_>) -> bool {
    // A number or an object under such a name is no secret; null is nothing.
    if value.as_str().is_none() && value.as_binary().is_none() {
        return false;
    }
    if !name.is_ascii() || name.len() > 32 {
        return false;
    }
    let plain: String = name
        .chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    NAMES.contains(&plain.as_str())
}

/// How many secrets stand at the top of `document` under the names in [`FIELDS`].
pub fn at_the_top(document: &RawDocument) -> u64 {
    let fields = document.iter_elements().map_while(Result::ok);
    let secret = fields.filter(|field| {
        let (name, value) = (field.key().as_str(), field.value());
        FIELDS.contains(&name) && value.is_ok_and(|value| is_secret(name, &value))
    });
    u64::try_from(secret.count()).unwrap_or(u64::MAX)
}

/// `document` without the secrets in it, and how many there were; `None` where there are none.
///
/// What is not an object or array with a secret in it is copied as it is.
pub fn without(document: &RawDocument) -> Option<(RawDocumentBuf, u64)> {
    let count = count(document);
    (count > 0).then(|| (strip(document), count))
}

fn count(document: &RawDocument) -> u64 {
    let mut found = 0;
    for field in document.iter_elements().map_while(Result::ok) {
        let Ok(value) = field.value() else { continue };
        found += if is_secret(field.key().as_str(), &value) {
            1
        } else {
            inside(value)
        };
    }
    found
}

fn inside(value: RawBsonRef<'_>) -> u64 {
    match (value.as_document(), value.as_array()) {
        (Some(document), _) => count(document),
        (None, Some(array)) => array.into_iter().map_while(Result::ok).map(inside).sum(),
        (None, None) => 0,
    }
}

fn strip(document: &RawDocument) -> RawDocumentBuf {
    let mut edit = Edit::new();
    for field in document.iter_elements().map_while(Result::ok) {
        let name = field.key().as_str();
        let Ok(value) = field.value() else { continue };
        if is_secret(name, &value) {
            edit = edit.unset(name);
        } else if inside(value) > 0 {
            edit = match (value.as_document(), value.as_array()) {
                (Some(inner), _) => edit.set(name, strip(inner)),
                (None, Some(array)) => edit.set(name, strip_array(array)),
                (None, None) => edit,
            };
        }
    }
    edit.apply(document)
}

fn strip_array(array: &RawArray) -> RawArrayBuf {
    let mut kept = RawArrayBuf::new();
    for value in array.into_iter().map_while(Result::ok) {
        match (value.as_document(), value.as_array()) {
            (Some(inner), _) => kept.push(strip(inner)),
            (None, Some(array)) => kept.push(strip_array(array)),
            (None, None) => kept.push(value),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn every_spelling_that_is_asked_for_is_a_secret_and_others_are_too() {
        for name in FIELDS.into_iter().chain(["API-KEY", "Github_Token"]) {
            assert!(is_secret(name, &RawBsonRef::String("x")), "{name}");
        }
        let odd = rawdoc! { "API-KEY": "x", "githubToken": "y" };
        assert_eq!((at_the_top(&odd), count(&odd)), (1, 2));
    }

    #[test]
    fn secrets_go_at_any_depth_and_everything_else_stays() {
        let document = rawdoc! {
            "a": 1, "github_token": "gho_x", "languages": { "Token": 7 },
            "deep": { "list": [{ "refreshToken": "y", "b": 2 }, 3] }, "password": null,
        };
        let (kept, count) = without(&document).unwrap();
        assert_eq!(count, 2);
        assert_eq!(at_the_top(&document), 1);
        let expected = rawdoc! {
            "a": 1, "languages": { "Token": 7 }, "deep": { "list": [{ "b": 2 }, 3] }, "password": null,
        };
        assert_eq!(kept, expected);
        assert_eq!(without(&kept), None);
    }
}
