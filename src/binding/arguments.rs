//! Arguments from JavaScript, and errors to it.

use std::mem::MaybeUninit;
use std::ptr;

use napi::sys;
use napi::{Env, Status, Unknown};

use crate::connection::command::Command;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Operation;
use crate::runtime::{Answer, Environment, Output, Settler};
use crate::time::Millis;

/// Most words fit, and are then read in one call.
const WORD_BUFFER: usize = 1024;

/// Runs an operation on the I/O thread; its answer settles the promise that is returned.
pub(super) fn answer<'env>(
    env: &'env Env,
    operation: &'static Operation,
    task: impl Future<Output = Answer> + Send + 'static,
) -> napi::Result<Unknown<'env>> {
    let answer = Environment::of(env)?.submit_task(operation, task)?;
    Ok(promise(env, answer))
}

/// Starts an operation that has what settles the promise that is returned.
pub(super) fn answer_later<'env>(
    env: &'env Env,
    operation: &'static Operation,
    start: impl FnOnce(Settler),
) -> napi::Result<Unknown<'env>> {
    let answer = Environment::of(env)?.promise(operation, start)?;
    Ok(promise(env, answer))
}

/// The answer of an operation that has nothing to say.
pub(super) fn done((): ()) -> Output {
    Output::Undefined
}

/// Texts as a list.
pub(super) fn texts(texts: Vec<Vec<u8>>) -> Output {
    Output::List(texts.into_iter().map(Output::Text).collect())
}

/// Texts as a list, or `null`.
pub(super) fn texts_or_null(found: Option<Vec<Vec<u8>>>) -> Output {
    found.map_or(Output::Null, texts)
}

/// Texts as the core takes them.
pub(super) fn bytes(texts: Vec<String>) -> Vec<Vec<u8>> {
    texts.into_iter().map(String::into_bytes).collect()
}

/// Milliseconds since 1970.
pub(super) fn timestamp(now: f64) -> Result<u64> {
    Millis::zero_or_more("the time", now).map(Millis::get)
}

/// TypeScript has checked that it is a whole number that is not negative; `as` saturates the rest.
pub(super) fn count(number: f64) -> u64 {
    number as u64
}

/// A fence that came back from JavaScript.
pub(super) fn fence(name: &str, value: f64) -> Result<u64> {
    const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
    if value.fract() == 0.0 && (0.0..=MAX_SAFE_INTEGER).contains(&value) {
        return Ok(value as u64);
    }
    let problem = format!("{name} must be a whole number from 0 to 2^53 - 1, not {value}");
    Err(Error::new(ErrorKind::InvalidArgument, problem))
}

/// A duration, or `null`.
pub(super) fn millis(millis: Option<Millis>) -> Output {
    millis.map_or(Output::Null, |millis| Output::Number(millis.get() as f64))
}

/// A promise made by [`Environment`], as the return value of a method.
pub(super) fn promise(env: &Env, promise: sys::napi_value) -> Unknown<'_> {
    // SAFETY: the value is a live handle of the running call of `env`.
    unsafe { Unknown::from_raw_unchecked(env.raw(), promise) }
}

/// An error to throw synchronously, with our code. TypeScript turns it into the class of its code.
pub(super) fn thrown(env: &Env, error: &Error) -> napi::Error {
    // SAFETY: `env` is of the running call.
    match unsafe { crate::runtime::output::error_to_js(env.raw(), error) } {
        // SAFETY: the value was just made in this call.
        Ok(value) => napi::Error::from(unsafe { Unknown::from_raw_unchecked(env.raw(), value) }),
        Err(_) => napi::Error::from_reason(error.message().to_owned()),
    }
}

/// A command from an array of strings and byte arrays, which TypeScript has checked.
pub(super) unsafe fn command(env: sys::napi_env, array: sys::napi_value) -> napi::Result<Command> {
    let mut length = 0;
    // SAFETY: the caller's value is a live handle of the running call.
    check(unsafe { sys::napi_get_array_length(env, array, &mut length) })?;
    let mut command = Command::of_words();
    for index in 0..length {
        let mut word = ptr::null_mut();
        // SAFETY: as above, and `word` lives as long as the call.
        unsafe {
            check(sys::napi_get_element(env, array, index, &mut word))?;
            push_word(&mut command, env, word)?;
        }
    }
    Ok(command)
}

pub(super) fn check(status: sys::napi_status) -> napi::Result<()> {
    if status == sys::Status::napi_ok {
        Ok(())
    } else {
        Err(napi::Error::new(Status::from(status), "an argument is not what its type says"))
    }
}

unsafe fn push_word(command: &mut Command, env: sys::napi_env, word: sys::napi_value) -> napi::Result<()> {
    // SAFETY: the caller's value is a live handle of the running call.
    match unsafe { read_text(env, word, |text| command.push_word(text)) } {
        // SAFETY: likewise.
        Err(error) if error.status == Status::StringExpected => unsafe { push_bytes(command, env, word) },
        pushed => pushed,
    }
}

/// A text.
pub(super) unsafe fn text(env: sys::napi_env, value: sys::napi_value) -> napi::Result<String> {
    // SAFETY: the caller's value is a live handle of the running call.
    let text = unsafe { read_text(env, value, <[u8]>::to_vec) }?;
    String::from_utf8(text).map_err(|error| napi::Error::from_reason(error.to_string()))
}

/// Has `take` read a text as UTF-8.
unsafe fn read_text<R>(
    env: sys::napi_env,
    value: sys::napi_value,
    take: impl FnOnce(&[u8]) -> R,
) -> napi::Result<R> {
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; WORD_BUFFER];
    let mut copied = 0;
    // SAFETY: the caller's value is a live handle of the running call; N-API writes at most WORD_BUFFER bytes, a final
    // NUL included, and says how many.
    unsafe {
        check(sys::napi_get_value_string_utf8(
            env,
            value,
            buffer.as_mut_ptr().cast(),
            WORD_BUFFER,
            &mut copied,
        ))?;
        // A character of up to four bytes may not have fitted any more.
        if copied + 4 < WORD_BUFFER {
            return Ok(take(std::slice::from_raw_parts(buffer.as_ptr().cast(), copied)));
        }
        check(sys::napi_get_value_string_utf8(env, value, ptr::null_mut(), 0, &mut copied))?;
        let mut long = vec![0u8; copied + 1];
        check(sys::napi_get_value_string_utf8(
            env,
            value,
            long.as_mut_ptr().cast(),
            long.len(),
            &mut copied,
        ))?;
        Ok(take(&long[..copied]))
    }
}

unsafe fn push_bytes(command: &mut Command, env: sys::napi_env, word: sys::napi_value) -> napi::Result<()> {
    let (mut kind, mut length, mut data) = (0, 0, ptr::null_mut());
    // SAFETY: the bytes belong to a live typed array and are copied before any JavaScript runs again.
    unsafe {
        check(sys::napi_get_typedarray_info(
            env,
            word,
            &mut kind,
            &mut length,
            &mut data,
            ptr::null_mut(),
            ptr::null_mut(),
        ))?;
        if kind != sys::TypedarrayType::uint8_array {
            return check(sys::Status::napi_invalid_arg);
        }
        // An empty array may have no address.
        let bytes = if length > 0 { std::slice::from_raw_parts(data.cast::<u8>(), length) } else { &[] };
        command.push_word(bytes);
    }
    Ok(())
}
