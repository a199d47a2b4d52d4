//! A server process owns a map, and any number of clients use it over connections: Python's
//! `Manager`. What they share is not memory but somebody to ask.
//!
//! Section "More Options". Run it: `cargo run -p shared-value --example manager`
//!
//! Predict: three clients add 1 apple 100 times each. A fourth asks for 1000 more, and is killed
//! before the end of its line. The parent asks for what nobody understands, then for the number of
//! apples. What does it get?
//!
//! Expect: an error reply, then 300. Half a request is none, and a client's death is an end of file
//! to the one thread that serves it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::{linux::net::SocketAddrExt, unix::net::*};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use common::{join_all, spawn};
use nix::sys::signal::{Signal, raise};

fn serve(listener: &UnixListener) -> Result<()> {
    let map = &Mutex::new(HashMap::new());
    std::thread::scope(|scope| {
        for client in listener.incoming() {
            let client = client?;
            scope.spawn(move || -> Result<()> {
                loop {
                    let request = receive(&client)?; // an error here ends this thread alone
                    let reply = answer(&request, &mut map.lock().expect("no answer panics"));
                    send(&client, &reply.unwrap_or_else(|error| format!("error: {error}")))?;
                }
            });
        }
        Ok(())
    })
}

fn answer(request: &str, map: &mut HashMap<String, i64>) -> Result<String> {
    let (key, more) = match request.split_whitespace().collect::<Vec<_>>()[..] {
        ["get", key] => (key, 0),
        ["add", key, number] => (key, number.parse().context("not a number")?),
        _ => bail!("neither 'get KEY' nor 'add KEY NUMBER'"),
    };
    let value = map.entry(key.into()).or_insert(0);
    *value = value.checked_add(more).context("too many")?;
    Ok(value.to_string())
}

fn send(mut stream: &UnixStream, line: &str) -> Result<()> {
    Ok(stream.write_all(format!("{line}\n").as_bytes())?)
}

fn receive(stream: &UnixStream) -> Result<String> {
    let mut line = String::new(); // the only one there: who sends one waits for the reply
    BufReader::new(stream).read_line(&mut line)?;
    line.strip_suffix('\n').map(String::from).context("end of file: the other side is gone")
}

fn main() -> Result<()> {
    // An abstract address is no file, so nothing is left of it, whoever is killed. Nor does it keep
    // other users out: Python's Manager asks each client for a key.
    let address = SocketAddr::from_abstract_name(format!("manager-{}", std::process::id()))?;
    let listener = UnixListener::bind_addr(&address)?;
    let _manager = spawn("Manager", move || serve(&listener))?; // killed and reaped when dropped

    let connect = || UnixStream::connect_addr(&address);
    let ask = |manager: &_, request| send(manager, request).and_then(|()| receive(manager));
    let add = || {
        let manager = connect()?;
        (0..100).try_for_each(|_| ask(&manager, "add apples 1").map(drop))
    };
    let clients = [spawn("Client-1", add)?, spawn("Client-2", add)?, spawn("Client-3", add)?];
    let killed = spawn("Client-4", || {
        connect()?.write_all(b"add apples 1000")?;
        Ok(raise(Signal::SIGKILL)?)
    })?;
    println!("{}", killed.join().unwrap_err());
    join_all(clients)?;

    let manager = connect()?;
    println!("eat apples: {}", ask(&manager, "eat apples")?);
    println!("get apples: {}", ask(&manager, "get apples")?);
    Ok(())
}
