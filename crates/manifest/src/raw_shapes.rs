//! The keys of shapes and their groups. See `raw.rs` for the rules of such types.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::keyword::{Keyword, KeywordOr};
use crate::spanned::Spanned;
use crate::texts::{NameText, PlaceText};

/// A named arrangement of the components. Each group runs in its own process. A shape without `groups` has one group
/// with all components.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "shape")]
pub(crate) struct RawShape {
    /// The components of each group, by the group's name: a list, or a table with `place`. A component that is in no
    /// group forms a group by itself. With `"each"`, every component forms a group by itself. If the only group has
    /// `place = "browser"`, all components also run in one process.
    pub(crate) groups: Option<Spanned<KeywordOr<Each, RawGroups>>>,
    /// Components that are never fused with another component in this shape, or `"all"`.
    #[serde(default)]
    pub(crate) isolate: Spanned<KeywordOr<All, Vec<Spanned<NameText>>>>,
}

/// The components of each group, by the group's name.
pub(crate) type RawGroups = BTreeMap<Spanned<NameText>, RawGroup>;

/// The components of a group, or a table with options.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum RawGroup {
    List(Vec<Spanned<NameText>>),
    Table(RawGroupTable),
}

/// The components of a group, with options.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "table")]
pub(crate) struct RawGroupTable {
    /// The components of the group.
    #[schemars(required)]
    pub(crate) components: Option<Vec<Spanned<NameText>>>,
    /// Where the group runs. With `"browser"`, the group is a copy of its components that runs in the tabs of visitors:
    /// it answers the requests of its routes there, and calls the other components over the network, as far as they
    /// list functions in `exposed`. All components also run on the server. Default: in a process.
    pub(crate) place: Option<Spanned<PlaceText>>,
}

/// Implemented by hand, because serde's untagged enums lose the locations of the names in the file.
impl<'de> Deserialize<'de> for RawGroup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = RawGroup;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list or a table")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<RawGroup, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(RawGroup::List)
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<RawGroup, A::Error> {
                Deserialize::deserialize(MapAccessDeserializer::new(table)).map(RawGroup::Table)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// The keyword that makes a group for each component.
#[derive(Debug)]
pub(crate) enum Each {}

impl Keyword for Each {
    const KEYWORD: &'static str = "each";
}

/// The keyword that means all components.
#[derive(Debug)]
pub(crate) enum All {}

impl Keyword for All {
    const KEYWORD: &'static str = "all";
}
