//! CBOR values to and from Python objects. Exact, or refused.

use fabrik_op::Refused;
use fabrik_op::cbor::{Head, Malformed, Reader, Writer};
use fabrik_op::limits::DEPTH_MAX;
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

use crate::door::{Failure, invalid};

/// Deterministic CBOR of a Python value.
#[pyfunction]
pub fn cbor_encode<'py>(py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &encode(value)?))
}

/// Strict decoding of one whole item.
#[pyfunction]
pub fn cbor_decode<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let mut reader = Reader::new(data);
    reader.item(0).and_then(|_| reader.end()).map_err(refuse)?;
    decode(py, data)
}

/// The canonical bytes of `value`, which are known to fit the depth limit by themselves.
pub fn encode(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut writer = Writer::new();
    write(&mut writer, value, 0)?;
    Ok(writer.into_bytes())
}

/// The Python value of one canonical item.
pub fn decode<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    read(py, &mut Reader::new(data))
}

fn refuse(malformed: Malformed) -> PyErr {
    Failure::Refused(Refused::invalid(format!("cbor: {malformed}"))).into()
}

fn write(writer: &mut Writer, value: &Bound<'_, PyAny>, open: usize) -> PyResult<()> {
    if value.is_none() {
        writer.null();
    } else if let Ok(text) = value.cast::<PyString>() {
        writer.text(text.to_str().map_err(|_| invalid("cbor: a str with lone surrogates has no UTF-8"))?);
    } else if let Ok(flag) = value.cast::<PyBool>() {
        writer.bool(flag.is_true());
    } else if let Ok(number) = value.cast::<PyInt>() {
        write_int(writer, number)?;
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        writer.bytes(bytes.as_bytes());
    } else if open >= DEPTH_MAX {
        return Err(invalid(format!("cbor: nested deeper than {DEPTH_MAX}, or not a value")));
    } else if let Ok(list) = value.cast::<PyList>() {
        writer.array(list.len());
        list.iter().try_for_each(|item| write(writer, &item, open + 1))?;
    } else if let Ok(tuple) = value.cast::<PyTuple>() {
        writer.array(tuple.len());
        tuple.iter().try_for_each(|item| write(writer, &item, open + 1))?;
    } else if let Ok(dict) = value.cast::<PyDict>() {
        write_dict(writer, dict, open)?;
    } else {
        return Err(invalid(format!("cbor: {} has no place in an op", value.get_type().name()?)));
    }
    Ok(())
}

fn write_int(writer: &mut Writer, number: &Bound<'_, PyInt>) -> PyResult<()> {
    if let Ok(small) = number.extract::<i64>() {
        writer.int(small);
    } else if let Ok(large) = number.extract::<u64>() {
        writer.uint(large);
    } else {
        return Err(invalid("cbor: an integer outside -2^63..2^64-1"));
    }
    Ok(())
}

fn write_dict(writer: &mut Writer, dict: &Bound<'_, PyDict>, open: usize) -> PyResult<()> {
    let mut pairs = Vec::with_capacity(dict.len());
    for (key, value) in dict.iter() {
        let is_key = (key.is_instance_of::<PyInt>() && !key.is_instance_of::<PyBool>()) || key.is_instance_of::<PyString>() || key.is_instance_of::<PyBytes>();
        if !is_key {
            return Err(invalid(format!("cbor: a map key that is not an integer, byte string or text: {}", key.get_type().name()?)));
        }
        let (mut key_bytes, mut value_bytes) = (Writer::new(), Writer::new());
        write(&mut key_bytes, &key, open + 1)?;
        write(&mut value_bytes, &value, open + 1)?;
        pairs.push((key_bytes.into_bytes(), value_bytes.into_bytes()));
    }
    if writer.sorted_map(pairs) { Ok(()) } else { Err(invalid("cbor: a duplicate map key")) }
}

fn read<'py>(py: Python<'py>, reader: &mut Reader<'_>) -> PyResult<Bound<'py, PyAny>> {
    let start = reader.at();
    let head = reader.head().map_err(refuse)?;
    read_rest(py, reader, start, head)
}

fn read_rest<'py>(py: Python<'py>, reader: &mut Reader<'_>, start: usize, head: Head) -> PyResult<Bound<'py, PyAny>> {
    match head {
        Head::Null => Ok(py.None().into_bound(py)),
        Head::Bool(flag) => flag.into_bound_py_any(py),
        Head::Uint(number) => number.into_bound_py_any(py),
        Head::Negative(number) => number.into_bound_py_any(py),
        Head::Bytes(length) => Ok(PyBytes::new(py, reader.take(length)).into_any()),
        Head::Text(length) => Ok(PyString::new(py, reader.utf8(start, length).map_err(refuse)?).into_any()),
        Head::Array(count) => {
            let list = PyList::empty(py);
            for _ in 0..count {
                list.append(read(py, reader)?)?;
            }
            Ok(list.into_any())
        }
        Head::Map(count) => {
            let dict = PyDict::new(py);
            let mut before: &[u8] = &[];
            for _ in 0..count {
                reader.key(&mut before).map_err(refuse)?;
                dict.set_item(decode(py, before)?, read(py, reader)?)?;
            }
            Ok(dict.into_any())
        }
    }
}
