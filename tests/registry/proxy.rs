//! A proxy between detgate and a real server that goes wrong where it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    /// The client gets this answer; the server gets nothing.
    Answer(&'static str),
    /// The server does what it is asked; the client gets no answer.
    LoseAnswer,
    /// The server does what it is asked; the client gets this answer: what stands between makes one of its own.
    Replace(&'static str),
    /// The server gets nothing, the client gets no answer.
    LoseRequest,
    /// The client gets no answer; the server gets the request after it has answered the next one of
    /// the same kind: something between held it back.
    LateRequest,
    /// The server gets half of the body, then the connection breaks on both sides.
    CutRequest,
    /// The server does what it is asked; the client gets half of the answer.
    CutAnswer,
    /// The answer takes its time.
    Delay(Duration),
    /// The client gets no answer, but the connection stays.
    Stall(Duration),
    /// The client gets its own request's head back, as an error.
    Echo,
    /// The server is asked under this host name.
    Host(&'static str),
}

/// Listens on a port of its own until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: String,
    socket: SocketAddr,
    is_closed: Arc<AtomicBool>,
    heads: Arc<Mutex<Vec<String>>>,
}

struct Way<R> {
    target: String,
    rule: R,
    /// Requests that are held back.
    held: Mutex<Vec<Vec<u8>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// For a server; `rule` sees each request's first line.
    pub(crate) fn new(server: &str, rule: impl Fn(&str) -> Fault + Send + Sync + 'static) -> Self {
        let target = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = listener.local_addr().unwrap();
        let is_closed = Arc::new(AtomicBool::new(false));
        let closed = Arc::clone(&is_closed);
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let way = Arc::new(Way { target, rule, held: Mutex::default(), heads: Arc::clone(&heads) });
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                let way = Arc::clone(&way);
                // A broken connection is what this is for.
                std::thread::spawn(move || drop(way.handle(client)));
            }
        });
        Self { address: format!("http://{socket}"), socket, is_closed, heads }
    }

    /// The heads of all requests so far that `is_wanted`, with their first lines.
    pub(crate) fn heads(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let heads = self.heads.lock().unwrap();
        heads.iter().filter(|head| is_wanted(head)).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_closed.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = TcpStream::connect(self.socket);
    }
}

/// A server that has one answer to everything.
pub(crate) fn answering(answer: &'static str) -> Proxy {
    Proxy::new("", move |_| Fault::Answer(answer))
}

impl<R: Fn(&str) -> Fault> Way<R> {
    /// One request per connection, so that the rule sees every request.
    fn handle(&self, mut client: TcpStream) -> std::io::Result<()> {
        let (head, body) = read_request(&mut client)?;
        let line = head.lines().next().unwrap_or("").to_owned();
        self.heads.lock().unwrap().push(head.clone());
        let fault = (self.rule)(&line);
        let mut request = altered(&head, fault).into_bytes();
        match fault {
            Fault::Answer(answer) => {
                client.write_all(answer.as_bytes())?;
                return finish(&client);
            }
            Fault::Echo => {
                write!(
                    client,
                    "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\nyou said {head}"
                )?;
                return finish(&client);
            }
            Fault::LoseRequest => return Ok(()),
            Fault::LateRequest => {
                request.extend(body);
                self.held.lock().unwrap().push(request);
                return Ok(());
            }
            Fault::Stall(time) => {
                std::thread::sleep(time);
                return Ok(());
            }
            Fault::CutRequest => {
                request.extend(&body[..body.len() / 2]);
                let mut server = TcpStream::connect(&self.target)?;
                server.write_all(&request)?;
                return server.shutdown(Shutdown::Both);
            }
            Fault::Delay(time) => std::thread::sleep(time),
            Fault::None
            | Fault::LoseAnswer
            | Fault::Replace(_)
            | Fault::CutAnswer
            | Fault::Host(_) => {}
        }
        request.extend(body);
        let answer = self.ask(&request)?;
        self.deliver_held(&line)?;
        match fault {
            Fault::LoseAnswer => return Ok(()),
            Fault::Replace(answer) => client.write_all(answer.as_bytes())?,
            Fault::CutAnswer => client.write_all(&answer[..answer.len() - answer.len() / 8 - 1])?,
            _ => client.write_all(&answer)?,
        }
        finish(&client)
    }

    fn ask(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut server = TcpStream::connect(&self.target)?;
        server.write_all(request)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn deliver_held(&self, line: &str) -> std::io::Result<()> {
        let mut held = std::mem::take(&mut *self.held.lock().unwrap());
        let (now, later) = held.drain(..).partition(|request| request.starts_with(line.as_bytes()));
        *self.held.lock().unwrap() = later;
        let now: Vec<Vec<u8>> = now;
        now.iter().try_for_each(|request| self.ask(request).map(drop))
    }
}

/// Ends a connection so that what was written still arrives.
fn finish(client: &TcpStream) -> std::io::Result<()> {
    client.shutdown(Shutdown::Write)?;
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    let _ = std::io::copy(&mut &*client, &mut std::io::sink());
    Ok(())
}

/// The head of the connection's only request.
pub(crate) fn finish_request(head: &str) -> String {
    head.replacen("\r\n", "\r\nconnection: close\r\n", 1)
}

/// The head for the server.
fn altered(head: &str, fault: Fault) -> String {
    let head = finish_request(head);
    let Fault::Host(name) = fault else { return head };
    let lines = head.split("\r\n").map(|line| {
        if line.to_ascii_lowercase().starts_with("host:") {
            format!("host: {name}")
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

/// The request's head with its empty line, and its body.
pub(crate) fn read_request(client: &mut impl Read) -> std::io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut read_more = |bytes: &mut Vec<u8>| {
        let count = client.read(&mut buffer)?;
        bytes.extend(&buffer[..count]);
        if count == 0 {
            Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
        } else {
            Ok(())
        }
    };
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        read_more(&mut bytes)?;
    };
    let mut body = bytes.split_off(end);
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    while body.len() < length.unwrap_or(0) {
        read_more(&mut body)?;
    }
    Ok((head, body))
}
