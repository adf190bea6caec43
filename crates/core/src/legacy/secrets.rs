//! Secrets in legacy documents: they are left behind, at any depth, and counted. Must never be quoted.

use bson::raw::{RawArray, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};
use bson::spec::ElementType;

use crate::document::Edit;

/// Names of fields that hold secrets, without `_` and `-`, in lower case, in order.
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

/// How many letters the longest of [`NAMES`] has.
const LONGEST: usize = 18;

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

/// Whether a field of this name and type holds a secret. A number or an object under such a name is none, and null is
/// nothing.
fn is_secret(name: &str, of: ElementType) -> bool {
    if !matches!(of, ElementType::String | ElementType::Binary) {
        return false;
    }
    let mut letters = [0; LONGEST];
    let mut length = 0;
    for byte in name.bytes().filter(|byte| !matches!(byte, b'_' | b'-')) {
        let Some(letter) = letters.get_mut(length) else {
            return false;
        };
        *letter = byte.to_ascii_lowercase();
        length += 1;
    }
    NAMES
        .binary_search_by(|secret| secret.bytes().cmp(letters.iter().copied().take(length)))
        .is_ok()
}

/// How many secrets stand at the top of `document` under the names in [`FIELDS`].
pub fn at_the_top(document: &RawDocument) -> u64 {
    let fields = document.iter_elements().map_while(Result::ok);
    let secret = fields.filter(|field| {
        let name = field.key().as_str();
        is_secret(name, field.element_type()) && FIELDS.contains(&name)
    });
    u64::try_from(secret.count()).unwrap_or(u64::MAX)
}

/// `document` without its secrets, and how many there were; `None` where there are none.
pub fn without(document: &RawDocument) -> Option<(RawDocumentBuf, u64)> {
    let (edit, found) = left_out(document);
    (found > 0).then(|| (edit.apply(document), found))
}

/// What takes the secrets out of `document`, and how many there are.
pub(super) fn left_out(document: &RawDocument) -> (Edit, u64) {
    let (mut edit, mut found) = (Edit::new(), 0);
    for field in document.iter_elements().map_while(Result::ok) {
        let (name, of) = (field.key().as_str(), field.element_type());
        if is_secret(name, of) {
            edit = edit.unset(name);
            found += 1;
        } else if matches!(of, ElementType::EmbeddedDocument | ElementType::Array)
            && let Ok(value) = field.value()
            && let Some((kept, inside)) = inside(value)
        {
            edit = edit.set(name, kept);
            found += inside;
        }
    }
    (edit, found)
}

fn inside(value: RawBsonRef<'_>) -> Option<(RawBson, u64)> {
    match (value.as_document(), value.as_array()) {
        (Some(document), _) => {
            without(document).map(|(kept, found)| (RawBson::Document(kept), found))
        }
        (None, Some(array)) => {
            inside_array(array).map(|(kept, found)| (RawBson::Array(kept), found))
        }
        (None, None) => None,
    }
}

fn inside_array(array: &RawArray) -> Option<(RawArrayBuf, u64)> {
    let values = || array.into_iter().map_while(Result::ok);
    let (mut kept, mut found) = (None, 0);
    for (n, value) in values().enumerate() {
        match inside(value) {
            Some((without, inside)) => {
                let kept = kept.get_or_insert_with(|| values().take(n).collect::<RawArrayBuf>());
                kept.push(without);
                found += inside;
            }
            None => {
                if let Some(kept) = &mut kept {
                    kept.push(value);
                }
            }
        }
    }
    kept.map(|kept| (kept, found))
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn names_can_be_searched() {
        assert!(NAMES.is_sorted());
        let longest = NAMES.iter().map(|name| name.len()).max();
        assert_eq!(longest, Some(LONGEST));
        for name in NAMES {
            assert!(is_secret(name, ElementType::String), "{name}");
        }
        for name in ["", "tokens", "secretkeys", "githubrefreshtokens", "jw"] {
            assert!(!is_secret(name, ElementType::String), "{name}");
        }
    }

    #[test]
    fn every_spelling_that_is_asked_for_is_a_secret_and_others_are_too() {
        for name in FIELDS.into_iter().chain(["API-KEY", "Github_Token"]) {
            assert!(is_secret(name, ElementType::String), "{name}");
        }
        let odd = rawdoc! { "API-KEY": "x", "githubToken": "y" };
        let found = without(&odd).map(|(_, found)| found);
        assert_eq!((at_the_top(&odd), found), (1, Some(2)));
    }

    #[test]
    fn secrets_go_at_any_depth_and_everything_else_stays() {
        let document = rawdoc! {
            "a": 1, "github_token": "gho_x", "languages": { "Token": 7 },
            "deep": { "list": [1, { "refreshToken": "y", "b": 2 }, 3, [{ "jwt": "z" }]] }, "password": null,
        };
        let (kept, count) = without(&document).unwrap();
        assert_eq!(count, 3);
        assert_eq!(at_the_top(&document), 1);
        let expected = rawdoc! {
            "a": 1, "languages": { "Token": 7 }, "deep": { "list": [1, { "b": 2 }, 3, [{}]] }, "password": null,
        };
        assert_eq!(kept, expected);
        assert_eq!(without(&kept), None);
    }
}
