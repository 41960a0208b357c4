//! Why bytes were refused.

use std::fmt;

/// A refusal, with a one-line reason that names the place and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// Not a canonical op, segment or ephemeral message, or it does not chain.
    Invalid(String),
    /// A signature that does not verify, or a key that is not a point.
    Signature(String),
    /// A genesis record that can not be read.
    Genesis(String),
    /// An op of our own that its author may not write.
    Authority(String),
}

impl Refused {
    /// An [`Refused::Invalid`] with this reason.
    pub fn invalid(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }

    /// The same refusal with `place` in front of the reason.
    #[must_use]
    pub fn at(self, place: &str) -> Self {
        match self {
            Self::Invalid(reason) => Self::Invalid(format!("{place}: {reason}")),
            Self::Signature(reason) => Self::Signature(format!("{place}: {reason}")),
            Self::Genesis(reason) => Self::Genesis(format!("{place}: {reason}")),
            Self::Authority(reason) => Self::Authority(format!("{place}: {reason}")),
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(reason) | Self::Signature(reason) | Self::Genesis(reason) | Self::Authority(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Refused {}
