//! The environment of the process. Owns the one place that reads it; nothing else may.

use super::source::Raw;

/// All variables of the process. A value that is not UTF-8 is kept as unfit; a variable whose name is not UTF-8 is left
/// out.
pub fn environment() -> Vec<(String, Raw)> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let value = value
                .into_string()
                .map_or(Raw::Unfit("bytes that are not UTF-8"), Raw::Text);
            Some((name.into_string().ok()?, value))
        })
        .collect()
}

/// Whether the user asked for no colours (no-color.org): `NO_COLOR` is there and not empty.
pub fn no_color(environment: &[(String, Raw)]) -> bool {
    environment
        .iter()
        .any(|(name, value)| name == "NO_COLOR" && *value != Raw::Text(String::new()))
}
