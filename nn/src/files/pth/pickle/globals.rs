//! What would be code in an unpickler: the names, the calls and the persistent ids of torch.
//!
//! Here they are tables. A name is compared with [`known`]; a call of a known name becomes an entry
//! of the graph if its arguments are exactly those that torch writes, and an error otherwise. A call of
//! any other name becomes an opaque object.

#![forbid(unsafe_code)]

use super::{Reader, pickle};
use crate::files::dtype::STORAGES;
use crate::files::entry::MAX_RANK;
use crate::files::error::{ReadError, ReadErrorKind};
use crate::files::pth::graph::{Global, Storage, Tensor, Value};

/// Longest key of a storage; torch writes small numbers or addresses.
const KEY_MAX: usize = 64;

impl<'f> Reader<'f, '_> {
    pub(super) fn global(&mut self, module: &'f str, name: &'f str) -> Result<(), ReadError> {
        let global = match known(module, name) {
            Some(global) => global,
            None => {
                let index = self.graph.others.len() as u32;
                self.budget.push(&mut self.graph.others, [module, name])?;
                Global::Other(index)
            }
        };
        self.push(Value::Global(global))
    }

    pub(super) fn reduce(&mut self, at: usize) -> Result<(), ReadError> {
        let (args, callable) = (self.pop()?, self.pop()?);
        match (args, callable) {
            (Value::Tuple(_), Value::Global(Global::Other(_)) | Value::Object(_)) => self.opaque(callable, args),
            (Value::Tuple(args), Value::Global(global)) => {
                let made = self.call(global, args, at)?;
                self.push(made)
            }
            _ => Err(pickle("REDUCE of something that is no function and tuple")),
        }
    }

    /// What a known function makes of its arguments.
    fn call(&mut self, global: Global, args: u32, at: usize) -> Result<Value, ReadError> {
        let args = self.graph.tuple(args);
        let given = args.len();
        let wrong = |name: &str, expected: &str| Err(pickle(format!("{name} with {given} arguments or other types; expected {expected}")));
        match global {
            Global::OrderedDict => match *args {
                [] => Ok(Value::Dict(self.new_dict(None)?)),
                [Value::List(list)] => Ok(Value::Dict(self.new_dict(Some(list))?)),
                _ => wrong("OrderedDict", "() or ([pairs])"),
            },
            // Over a storage of a class that is not known.
            Global::RebuildTensorV1 | Global::RebuildTensor if matches!(args.first(), Some(Value::Object(_))) => {
                self.new_opaque(Value::Global(global), Value::None)
            }
            Global::RebuildTensorV1 | Global::RebuildTensor => {
                let read = if global == Global::RebuildTensor { self.tensor(args, at) } else { self.tensor_v1(args, at) };
                let Some(tensor) = read else {
                    return match global {
                        Global::RebuildTensor => wrong(
                            "_rebuild_tensor_v2",
                            "(storage, offset ≥ 0, shape, strides ≥ 0 of one length, bool, hooks, metadata or none)",
                        ),
                        _ => wrong("_rebuild_tensor", "(storage, offset ≥ 0, shape, strides ≥ 0 of one length)"),
                    };
                };
                let index = self.graph.tensors.len() as u32;
                self.budget.push(&mut self.graph.tensors, tensor?)?;
                Ok(Value::Tensor(index))
            }
            // (function, class, arguments, state): the same numbers, whatever the class.
            Global::RebuildFromType => match *args {
                [
                    Value::Global(function @ (Global::RebuildTensor | Global::RebuildParameter)),
                    Value::Global(_),
                    Value::Tuple(inner),
                    _,
                ] => self.call(function, inner, at),
                _ => wrong("_rebuild_from_type_v2", "(_rebuild_tensor_v2, class, arguments, state)"),
            },
            Global::RebuildParameter => match *args {
                [tensor @ (Value::Tensor(_) | Value::Object(_)), Value::Bool(_), Value::Dict(_) | Value::None] => Ok(tensor),
                _ => wrong("_rebuild_parameter", "(tensor, bool, hooks)"),
            },
            Global::RebuildParameterWithState => match *args {
                [tensor @ (Value::Tensor(_) | Value::Object(_)), Value::Bool(_), Value::Dict(_) | Value::None, _] => Ok(tensor),
                _ => wrong("_rebuild_parameter_with_state", "(tensor, bool, hooks, state)"),
            },
            Global::Set => match *args {
                [] => Ok(Value::Set(self.new_list()?)),
                [Value::List(list)] => {
                    if let Some(list) = self.graph.lists.get_mut(list as usize) {
                        list.closed = true;
                    }
                    Ok(Value::Set(list))
                }
                _ => wrong("set", "() or ([items])"),
            },
            Global::Storage(_) | Global::Other(_) => Err(pickle("REDUCE of a storage class, which is only ever named")),
        }
    }

    /// The arguments of `_rebuild_tensor_v2`; `None` when they are others.
    fn tensor(&self, args: &[Value], at: usize) -> Option<Result<Tensor, ReadError>> {
        let ([storage, offset, shape, strides, grad, hooks], rest) = args.split_first_chunk::<6>()?;
        let empty = |value: &Value| match value {
            Value::None => true,
            Value::Dict(d) => self.graph.dicts.get(*d as usize).is_some_and(|d| d.len == 0),
            _ => false,
        };
        // The metadata are the bits "conjugate" and "negative", which would change the numbers.
        let marked = matches!(rest, [only] if !empty(only));
        let rest_fits = matches!(rest, [] | [Value::None | Value::Dict(_)]);
        if !rest_fits || !matches!(grad, Value::Bool(_)) || !matches!(hooks, Value::Dict(_) | Value::None) {
            return None;
        }
        self.view([*storage, *offset, *shape, *strides], marked, at)
    }

    /// The arguments of `_rebuild_tensor`; `None` when they are others.
    fn tensor_v1(&self, args: &[Value], at: usize) -> Option<Result<Tensor, ReadError>> {
        self.view(args.try_into().ok()?, false, at)
    }

    /// Storage, offset, shape and strides as a tensor.
    fn view(&self, [storage, offset, shape, strides]: [Value; 4], marked: bool, at: usize) -> Option<Result<Tensor, ReadError>> {
        let (Value::Storage(storage), Value::Tuple(shape), Value::Tuple(strides)) = (storage, shape, strides) else {
            return None;
        };
        let offset = self.graph.size(offset)?;
        let (sizes, steps) = (self.graph.tuple(shape), self.graph.tuple(strides));
        if sizes.len() > MAX_RANK {
            return Some(Err(ReadError::new(
                ReadErrorKind::Unsupported,
                format!("a tensor of rank {}, this reader takes at most {MAX_RANK}", sizes.len()),
            )));
        }
        if sizes.len() != steps.len() || sizes.iter().chain(steps).any(|&n| self.graph.size(n).is_none()) {
            return None;
        }
        Some(Ok(Tensor { storage, offset, shape, strides, at: at as u32, marked }))
    }

    /// `("storage", class, key, location, numel)`, and in legacy files a sixth: no view.
    pub(super) fn persistent_id(&mut self, at: usize) -> Result<(), ReadError> {
        let Value::Tuple(id) = self.pop()? else {
            return Err(pickle("a persistent id that is no tuple"));
        };
        let id = self.graph.tuple(id);
        // A module's class, with its source, as legacy files of whole modules have it.
        if let [Value::Str(tag), class @ Value::Global(Global::Other(_)), _, _] = *id
            && self.graph.str_bytes(tag) == b"module"
        {
            return self.push(class);
        }
        if let [_, class @ Value::Global(Global::Other(index)), Value::Str(_), Value::Str(_), Value::Int(_), ..] = *id
            && self.graph.others.get(index as usize).is_some_and(|[_, name]| name.ends_with("Storage"))
        {
            return self.opaque(class, Value::None);
        }
        let storage = match *id {
            [Value::Str(tag), Value::Global(Global::Storage(class)), Value::Str(key), Value::Str(_), numel, ref view @ ..]
                if self.graph.str_bytes(tag) == b"storage" =>
            {
                match *view {
                    [] | [Value::None] => {}
                    [Value::Tuple(_)] => {
                        return Err(ReadError::new(
                            ReadErrorKind::Unsupported,
                            "a storage that is a view of another, as torch 0.3 wrote it",
                        )
                        .next("load it and save it again with a newer torch"));
                    }
                    _ => return Err(pickle("a persistent id with too many parts")),
                }
                let elements =
                    self.graph.size(numel).ok_or_else(|| pickle("a persistent id whose number of elements is negative or none"))?;
                let length = self.graph.str_bytes(key).len();
                if length == 0 || length > KEY_MAX {
                    return Err(pickle(format!("a storage key of {length} bytes, expected 1 to {KEY_MAX}")));
                }
                let dtype = STORAGES.get(usize::from(class)).map_or(STORAGES[0].1, |(_, dtype)| *dtype);
                Storage { key, dtype, elements, at: at as u32 }
            }
            _ => {
                return Err(pickle(format!(
                    "a persistent id of {} parts; expected (\"storage\", a storage class, key, location, number of elements)",
                    id.len()
                )));
            }
        };
        let index = self.graph.storages.len() as u32;
        self.budget.push(&mut self.graph.storages, storage)?;
        self.push(Value::Storage(index))
    }
}

/// The names that mean something here.
fn known(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("builtins" | "__builtin__", "set") => Global::Set,
        ("torch._utils", "_rebuild_tensor") => Global::RebuildTensorV1,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch._utils", "_rebuild_parameter_with_state") => Global::RebuildParameterWithState,
        ("torch" | "torch.cuda" | "torch.storage", class) => {
            let class = class.strip_suffix("Storage")?;
            Global::Storage(STORAGES.iter().position(|(known, _)| *known == class)? as u8)
        }
        _ => return None,
    })
}
