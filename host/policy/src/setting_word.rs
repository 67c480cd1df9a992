//! Settings that are one of a few words, such as `order = "subject"`. Owns the conversion between
//! the words and their enums. Never decides what a setting means.

/// Defines an enum whose variants are words in manifests and in the API. The first word is the
/// default.
macro_rules! setting_word {
    (
        $(#[$attribute:meta])*
        $name:ident, $what:literal, $expected:literal {
            $(#[$first_attribute:meta])* $first:ident = $first_word:literal,
            $($(#[$variant_attribute:meta])* $variant:ident = $word:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $(#[$first_attribute])*
            #[default]
            #[serde(rename = $first_word)]
            $first,
            $(
                $(#[$variant_attribute])*
                #[serde(rename = $word)]
                $variant,
            )+
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[Self::$first, $(Self::$variant),+];

            /// Returns the word.
            pub fn as_str(self) -> &'static str {
                match self {
                    Self::$first => $first_word,
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .enum_values(Some(Self::ALL.iter().map(|known| known.as_str())))
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let known = Self::ALL.iter().copied().find(|known| known.as_str() == text);
                known.ok_or_else(|| $crate::UnknownWord {
                    what: $what,
                    given: text.chars().take(80).collect(),
                    expected: $expected,
                })
            }
        }
    };
}

pub(crate) use setting_word;
