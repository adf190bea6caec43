//! `config template`: owns the commented settings file, made from the table. Every line that sets something
//! is commented out; with the comment signs gone it is still a valid file that changes nothing.

use std::fmt::Write as _;

use super::kind::ValueKind;
use super::table::{GROUPS, Setting};

/// The settings file with every setting in it, commented out.
pub fn template() -> String {
    let mut text = String::from(
        "# Settings of tierkeep. Read from ./tierkeep.toml, or from the file that --config names.\n\
         # Flags take precedence over the environment, the environment over this file. An empty value means not set.\n\
         # Durations: 24h, 60s, 500ms, 30d, 1h30m. Sizes: 8MiB, 64KiB, 1GiB. Switches: on, off.\n",
    );
    for group in GROUPS {
        let _ = write!(text, "\n## {}\n", group.title);
        for setting in group.settings {
            write_setting(&mut text, setting);
        }
    }
    text
}

fn write_setting(text: &mut String, setting: &Setting) {
    let _ = write!(text, "\n## {}\n## Variable: {}", setting.doc, setting.name);
    if let Some(variable) = setting.file_variable() {
        let _ = write!(
            text,
            ", or {variable} with the path of a file that holds the value"
        );
    }
    text.push('\n');
    if let ValueKind::Choice(_) | ValueKind::Limit = setting.kind {
        let _ = writeln!(text, "## Values: {}", setting.kind.form());
    }
    let default = setting.default.unwrap_or_default();
    if setting.kind.is_number()
        && default.bytes().all(|b| b.is_ascii_digit())
        && !default.is_empty()
    {
        let _ = writeln!(text, "#{} = {default}", setting.key());
    } else {
        let _ = writeln!(text, "#{} = \"{default}\"", setting.key());
    }
    if setting.file_variable().is_some() {
        let _ = writeln!(text, "#{}_file = \"\"", setting.key());
    }
}
