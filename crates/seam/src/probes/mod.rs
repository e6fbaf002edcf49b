//! Probes: host calls around the functions through which fused components call each other.
//!
//! A call over a fused seam stays inside of the compiled code, so the host cannot see it. In a probed composition, each
//! component that other components of the group call is rewritten: wherever one of the called functions is *lifted*
//! (made a function of the component model), its core function is replaced by a wrapper. The wrapper calls `enter` of
//! `isomer:probe/probe`, the original core function with the same core arguments, and `exit`. So the values of the call
//! are neither read nor copied, and functions with handles, streams or futures can be probed like all others.
//!
//! - A synchronous function, and an `async func` without a callback, calls `exit` when its core function returns.
//! - The core function of an `async func` with a callback returns a code: the task has ended, or it waits. The
//!   callback continues the task and returns such a code too. Both are wrapped, and the wrapper that gets the code for
//!   the end of the task calls `exit`. The wrappers do not store which call a task belongs to, because the host can find
//!   the call by the current task.
//! - A function that traps, or whose task is dropped, does not call `exit`.
//!
//! A component that cannot be rewritten is composed unchanged, and the reason is returned: a probe must never prevent
//! an app from running.
//!
//! | file | what it owns |
//! | --- | --- |
//! | [`outline`] | finding where an exported function is lifted |
//! | [`rewriter`] | inserting items into a component |
//! | [`wrapper`] | the core module with the wrappers |

mod outline;
mod rewriter;
mod wrapper;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use isomer_ids::ComponentName;
use isomer_plan::PlannedGroup;
use wasm_encoder::ValType;
use wasmparser::BinaryReaderError;
use wasmparser::types::Types;

use self::outline::{Lift, Outline};
use self::rewriter::{Insertion, TooDeep, WrappedFunction};
use self::wrapper::{Role, Wrapper};
use crate::composition::ComposedPart;
use crate::error::SeamError;
use crate::generate::probe::PROBE;
use crate::reader;

/// A function that reports its calls to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedFunction {
    /// The components that call the function over fused seams, sorted by name.
    pub callers: Vec<ComponentName>,
    /// The component that is called.
    pub component: ComponentName,
    /// The exported interface that contains the function, with its version: `boutique:shop/cart@1.0.0`.
    pub interface: String,
    /// The name of the function in the interface.
    pub function: String,
}

/// A component whose functions are called over fused seams, but do not report these calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnprobedComponent {
    /// The name of the component.
    pub component: ComponentName,
    /// Why the component is composed unchanged.
    pub reason: String,
}

/// The reasons why a component is not probed.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error("`{function}` of `{interface}` is not implemented in the component's outermost level")]
    NotLifted { interface: String, function: String },
    #[error("the implementation of an exported function is created after another function was exported")]
    CreatedLater,
    #[error("an exported function has a core parameter or result that is not a number")]
    NotNumeric,
    #[error("it imports `{PROBE}` itself")]
    Reserved,
    #[error("it cannot be read")]
    Read(#[source] Box<SeamError>),
    #[error("it cannot be encoded again")]
    Encode(#[source] wasm_encoder::reencode::Error<TooDeep>),
    #[error("it is not valid with probes")]
    Invalid(#[source] BinaryReaderError),
}

/// The probed components of a group.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// The probed functions, by their numbers.
    pub(crate) functions: Vec<ProbedFunction>,
    pub(crate) unprobed: Vec<UnprobedComponent>,
    /// The rewritten components.
    pub(crate) components: HashMap<ComponentName, Vec<u8>>,
}

/// Adds probes to each component whose functions another component of the same group calls.
pub(crate) fn probe(group: &PlannedGroup, parts: &[ComposedPart<'_>]) -> Probes {
    let mut probes = Probes::default();
    for part in parts {
        let called: Vec<_> = called_functions(group, parts, part.name)
            .into_iter()
            .map(|((interface, function), callers)| ProbedFunction {
                callers: callers.into_iter().collect(),
                component: part.name.clone(),
                interface,
                function,
            })
            .collect();
        if called.is_empty() {
            continue;
        }
        let first = u32::try_from(probes.functions.len()).expect("a group has few functions");
        match probed(part, &called, first) {
            Ok(bytes) => {
                probes.components.insert(part.name.clone(), bytes);
                probes.functions.extend(called);
            }
            Err(error) => {
                let reason = isomer_diagnostics::chain(&error);
                probes.unprobed.push(UnprobedComponent { component: part.name.clone(), reason });
            }
        }
    }
    probes
}

/// Returns the interface and the name of each function of `exporter` that other components of the group import, and the
/// names of these components.
fn called_functions(
    group: &PlannedGroup,
    parts: &[ComposedPart<'_>],
    exporter: &ComponentName,
) -> BTreeMap<(String, String), BTreeSet<ComponentName>> {
    let mut functions = BTreeMap::<_, BTreeSet<_>>::new();
    for link in group.links.iter().filter(|link| link.exporter == *exporter) {
        let importer = parts.iter().find(|part| *part.name == link.importer);
        let import = importer.and_then(|part| part.world.import(&link.import.to_string()));
        for function in import.iter().flat_map(|import| import.functions.keys()) {
            let function = (link.export.to_string(), function.clone());
            functions.entry(function).or_default().insert(link.importer.clone());
        }
    }
    functions
}

/// Returns a component whose functions in `called` report their calls under numbers from `first_number` on.
fn probed(part: &ComposedPart<'_>, called: &[ProbedFunction], first_number: u32) -> Result<Vec<u8>, ProbeError> {
    if part.world.import(PROBE).is_some() {
        return Err(ProbeError::Reserved);
    }
    let types = reader::types(&part.bytes).map_err(|error| ProbeError::Read(Box::new(error)))?;
    let outline = Outline::read(&part.bytes).map_err(|error| ProbeError::Read(Box::new(SeamError::Invalid(error))))?;
    let mut lifts = Vec::with_capacity(called.len());
    for (number, called) in (first_number..).zip(called) {
        let lift = outline.lift(&called.interface, &called.function).ok_or_else(|| ProbeError::NotLifted {
            interface: called.interface.clone(),
            function: called.function.clone(),
        })?;
        // A component may export one function under several names. The function is wrapped once, and its calls are
        // reported under the lowest number.
        if lifts.iter().all(|(known, _, _)| *known != lift) {
            lifts.push((lift, number, called));
        }
    }
    let Some(first) = lifts.iter().map(|(lift, _, _)| *lift).min() else { return Ok(part.bytes.to_vec()) };
    let before = outline.lifts()[first].before;
    let mut insertion = Insertion {
        module_name: format!("isomer probes of {}", part.name),
        first,
        before,
        wrappers: vec![],
        probed: HashMap::new(),
    };
    for (lift, number, called) in lifts {
        let Lift { core_function, callback, is_async, .. } = outline.lifts()[lift];
        let name = format!("{}.{}", called.interface, called.function);
        let mut wrap = |index, role, name| {
            let wrapped = if index < before.core_functions {
                WrappedFunction::Existing(index)
            } else {
                match outline.core_export(index) {
                    Some((instance, name)) if instance < before.core_instances => {
                        WrappedFunction::Export(instance, name)
                    }
                    _ => return Err(ProbeError::CreatedLater),
                }
            };
            let (parameters, results) = core_type(&types, index)?;
            let position = u32::try_from(insertion.wrappers.len()).expect("a component has few functions");
            insertion.wrappers.push((wrapped, Wrapper { role, number, name, parameters, results }));
            Ok(position)
        };
        let role = if is_async && callback.is_some() { Role::Start } else { Role::WholeCall };
        let callback_name = format!("{name} (callback)");
        let core = wrap(core_function, role, name)?;
        let callback = callback.map(|index| wrap(index, Role::Callback, callback_name)).transpose()?;
        insertion.probed.insert(lift, (core, callback));
    }
    let bytes = rewriter::rewrite(&part.bytes, insertion).map_err(ProbeError::Encode)?;
    reader::validate(&bytes).map_err(ProbeError::Invalid)?;
    Ok(bytes)
}

/// Returns the parameters and results of a core function of the component's outermost level.
fn core_type(types: &Types, index: u32) -> Result<(Vec<ValType>, Vec<ValType>), ProbeError> {
    let ty = types[types.as_ref().core_function_at(index)].unwrap_func();
    let numbers = |types: &[wasmparser::ValType]| types.iter().map(|ty| number(*ty)).collect::<Result<Vec<_>, _>>();
    Ok((numbers(ty.params())?, numbers(ty.results())?))
}

fn number(ty: wasmparser::ValType) -> Result<ValType, ProbeError> {
    match ty {
        wasmparser::ValType::I32 => Ok(ValType::I32),
        wasmparser::ValType::I64 => Ok(ValType::I64),
        wasmparser::ValType::F32 => Ok(ValType::F32),
        wasmparser::ValType::F64 => Ok(ValType::F64),
        wasmparser::ValType::V128 | wasmparser::ValType::Ref(_) => Err(ProbeError::NotNumeric),
    }
}
