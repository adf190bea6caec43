//! What is wrong with the configuration. Owns the messages' shape; must never hold the value of a secret.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Problem {
    /// The settings or roles it is about.
    pub subjects: Vec<String>,
    /// What is wrong, naming the subject, the value unless it is a secret, and where it came from.
    pub message: String,
    /// What to do, where the message does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Problem {
    /// A problem with one subject.
    pub fn new(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            subjects: vec![subject.into()],
            message: message.into(),
            remedy: None,
        }
    }

    /// A problem with several subjects.
    pub fn among<S: Into<String>>(
        subjects: impl IntoIterator<Item = S>,
        message: impl Into<String>,
    ) -> Self {
        let subjects = subjects.into_iter().map(Into::into).collect();
        Self {
            subjects,
            message: message.into(),
            remedy: None,
        }
    }

    /// The problem with what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

/// All problems of one check. Never empty.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// All problems as an error, or none.
    ///
    /// # Errors
    /// The problems, if there are any.
    pub fn check(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Self(problems))
        }
    }

    /// The problems.
    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = self.0.len() > 1;
        if several {
            write!(f, "{} problems with the configuration", self.0.len())?;
        }
        for (index, problem) in self.0.iter().enumerate() {
            let indent = if several { "  " } else { "" };
            if several {
                write!(f, "\n{}. ", index + 1)?;
            }
            f.write_str(&problem.message.replace('\n', &format!("\n{indent}")))?;
            if let Some(remedy) = &problem.remedy {
                write!(
                    f,
                    "\n{indent}  help: {}",
                    remedy.replace('\n', &format!("\n{indent}  "))
                )?;
            }
        }
        Ok(())
    }
}
