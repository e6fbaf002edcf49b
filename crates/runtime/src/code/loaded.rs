//! Compiled code that is mapped into this process. All users of the same code share one mapping.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use wasmtime::component::Component;

use super::key::Key;
use crate::engine::Engine;

/// Compiled code of one component, ready to be linked. Cheap to clone: all clones share one mapping.
#[derive(Clone)]
pub struct Code(pub(crate) Arc<Component>);

impl Code {
    /// Returns the compiled component.
    pub fn component(&self) -> &Component {
        &self.0
    }
}

impl From<Component> for Code {
    fn from(component: Component) -> Self {
        Self(Arc::new(component))
    }
}

/// All code that is currently mapped, by its key. Code is unmapped when its last [`Code`] is dropped.
#[derive(Debug, Default)]
pub(super) struct LoadedCode(Mutex<Map>);

#[derive(Default)]
struct Map {
    code: HashMap<Key, Weak<Component>>,
    /// The number of entries after the last clean-up, which removed the entries whose code was unmapped.
    cleaned: usize,
}

impl LoadedCode {
    fn map(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the code under `key` if it is mapped for `engine`.
    pub(super) fn get(&self, engine: &Engine, key: &Key) -> Option<Code> {
        self.map().get(engine, key)
    }

    /// Adds `code` under `key`; the entry lasts as long as the code is in use. If `engine` already has code under this
    /// key, returns the existing code instead of `code`.
    pub(super) fn add(&self, engine: &Engine, key: &Key, code: Code) -> Code {
        let mut map = self.map();
        if let Some(first) = map.get(engine, key) {
            return first;
        }
        if map.code.len() >= 2 * map.cleaned + 16 {
            map.code.retain(|_, code| code.strong_count() > 0);
            map.cleaned = map.code.len();
        }
        map.code.insert(key.clone(), Arc::downgrade(&code.0));
        code
    }
}

impl Map {
    fn get(&self, engine: &Engine, key: &Key) -> Option<Code> {
        let code = self.code.get(key)?.upgrade()?;
        // Several engines with the same settings may share a folder, but mapped code belongs to a single engine.
        wasmtime::Engine::same(code.engine(), engine.wasmtime()).then_some(Code(code))
    }
}

impl std::fmt::Debug for Map {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Map").field("code", &self.code.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_shared_within_one_engine_for_as_long_as_it_is_held() {
        let loaded = LoadedCode::default();
        let (first, second) = (Engine::on_demand().unwrap(), Engine::on_demand().unwrap());
        let key = Key::new(&first, [b"c".as_slice()]);
        let bytes = wat::parse_str("(component)").unwrap();
        let compile = |engine: &Engine| Code::from(Component::new(engine.wasmtime(), &bytes).unwrap());
        let code = loaded.add(&first, &key, compile(&first));
        assert!(
            Arc::ptr_eq(&loaded.add(&first, &key, compile(&first)).0, &code.0),
            "the second code replaces the first code"
        );
        assert!(Arc::ptr_eq(&loaded.get(&first, &key).unwrap().0, &code.0));
        assert!(
            loaded.get(&second, &key).is_none(),
            "code that is mapped for one engine is returned for another engine"
        );
        drop(code);
        assert!(loaded.get(&first, &key).is_none());
    }
}
