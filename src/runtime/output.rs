//! What a call answers, and how it becomes a JavaScript value.

use std::ptr;

use napi::sys;

use crate::connection::reply::Reply;
use crate::error::Error;

/// A result on its way to JavaScript, free of any environment so that the I/O thread can build it.
#[derive(Debug)]
pub enum Output {
    /// `undefined`
    Undefined,
    /// `null`
    Null,
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A `number` while exact, otherwise a `bigint`.
    Integer(i64),
    /// A string from UTF-8; invalid sequences become U+FFFD.
    Text(Vec<u8>),
    /// A `Buffer`.
    Buffer(Vec<u8>),
    /// An array.
    List(Vec<Output>),
}

/// The largest integer that a JavaScript number holds exactly.
const MAX_SAFE_INTEGER: i64 = (1 << 53) - 1;

impl Output {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into_bytes())
    }

    /// A string or `null`.
    pub fn text_or_null(bytes: Option<Vec<u8>>) -> Self {
        bytes.map_or(Self::Null, Self::Text)
    }

    /// A reply whose values are strings.
    pub fn from_reply(reply: Reply) -> Self {
        Self::convert(reply, Self::Text)
    }

    /// A reply whose values are `Buffer`s.
    pub fn from_reply_as_buffers(reply: Reply) -> Self {
        Self::convert(reply, Self::Buffer)
    }

    fn convert(reply: Reply, bytes_as: fn(Vec<u8>) -> Self) -> Self {
        match reply {
            Reply::Nil => Self::Null,
            Reply::Int(int) => Self::Integer(int),
            Reply::Status(status) => Self::text(status),
            Reply::Bytes(bytes) => bytes_as(bytes),
            Reply::List(items) => {
                Self::List(items.into_iter().map(|item| Self::convert(item, bytes_as)).collect())
            }
        }
    }
}

/// A failed N-API call. The environment is ending or out of memory; there is nobody left to tell.
#[derive(Debug)]
pub struct EnvironmentGone;

fn check(status: sys::napi_status) -> Result<(), EnvironmentGone> {
    if status == sys::Status::napi_ok { Ok(()) } else { Err(EnvironmentGone) }
}

/// Builds the JavaScript value of an output.
///
/// # Safety
///
/// Must run on the thread of `env`, inside an open handle scope.
pub unsafe fn output_to_js(env: sys::napi_env, output: Output) -> Result<sys::napi_value, EnvironmentGone> {
    let mut value = ptr::null_mut();
    // SAFETY: the caller is on the environment's thread; every pointer is to a live local.
    unsafe {
        check(match output {
            Output::Undefined => sys::napi_get_undefined(env, &mut value),
            Output::Null => sys::napi_get_null(env, &mut value),
            Output::Bool(bool) => sys::napi_get_boolean(env, bool, &mut value),
            Output::Number(number) => sys::napi_create_double(env, number, &mut value),
            Output::Integer(int) if (-MAX_SAFE_INTEGER..=MAX_SAFE_INTEGER).contains(&int) => {
                sys::napi_create_int64(env, int, &mut value)
            }
            Output::Integer(int) => sys::napi_create_bigint_int64(env, int, &mut value),
            Output::Text(bytes) => text_to_js(env, &bytes, &mut value),
            Output::Buffer(bytes) => sys::napi_create_buffer_copy(
                env,
                bytes.len(),
                bytes.as_ptr().cast(),
                ptr::null_mut(),
                &mut value,
            ),
            Output::List(items) => return list_to_js(env, items),
        })?;
    }
    Ok(value)
}

/// V8 keeps ASCII as one byte a character, and copies it far faster than it decodes UTF-8.
unsafe fn text_to_js(env: sys::napi_env, bytes: &[u8], value: &mut sys::napi_value) -> sys::napi_status {
    let (pointer, length) = (bytes.as_ptr().cast(), bytes.len() as isize);
    // SAFETY: the caller is on the environment's thread; `pointer` and `length` describe a live slice.
    unsafe {
        if bytes.is_ascii() {
            sys::napi_create_string_latin1(env, pointer, length, value)
        } else {
            sys::napi_create_string_utf8(env, pointer, length, value)
        }
    }
}

unsafe fn list_to_js(env: sys::napi_env, items: Vec<Output>) -> Result<sys::napi_value, EnvironmentGone> {
    let mut list = ptr::null_mut();
    // SAFETY: the caller is on the environment's thread, and `list` outlives the loop in its handle scope.
    unsafe {
        check(sys::napi_create_array_with_length(env, items.len(), &mut list))?;
        for (index, item) in items.into_iter().enumerate() {
            let value = output_to_js(env, item)?;
            check(sys::napi_set_element(env, list, index as u32, value))?;
        }
    }
    Ok(list)
}

/// Builds the JavaScript `Error` of an error: `code`, `message`, `retryable`, and if known `key`, `fence` and
/// `currentFence`. TypeScript turns it into the class of its code.
///
/// # Safety
///
/// Must run on the thread of `env`, inside an open handle scope.
pub unsafe fn error_to_js(env: sys::napi_env, error: &Error) -> Result<sys::napi_value, EnvironmentGone> {
    let mut value = ptr::null_mut();
    // SAFETY: the caller is on the environment's thread; every pointer is to a live local or a C string literal.
    unsafe {
        let (mut code, mut message) = (ptr::null_mut(), ptr::null_mut());
        check(text_to_js(env, error.kind().code().as_bytes(), &mut code))?;
        check(text_to_js(env, error.message().as_bytes(), &mut message))?;
        check(sys::napi_create_error(env, code, message, &mut value))?;
        let mut retryable = ptr::null_mut();
        check(sys::napi_get_boolean(env, error.kind().retryable(), &mut retryable))?;
        check(sys::napi_set_named_property(env, value, c"retryable".as_ptr(), retryable))?;
        if let Some(key) = error.key() {
            let mut text = ptr::null_mut();
            check(text_to_js(env, key.as_bytes(), &mut text))?;
            check(sys::napi_set_named_property(env, value, c"key".as_ptr(), text))?;
        }
        for (name, fence) in [c"fence", c"currentFence"].into_iter().zip(error.fences().into_iter().flatten())
        {
            let mut number = ptr::null_mut();
            check(sys::napi_create_double(env, fence as f64, &mut number))?;
            check(sys::napi_set_named_property(env, value, name.as_ptr(), number))?;
        }
    }
    Ok(value)
}
