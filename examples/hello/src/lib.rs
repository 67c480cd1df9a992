//! The smallest HTTP app: a greeting, and an echo of the request's body.

use isopod_sdk::prelude::*;

isopod_sdk::http!(app);
isopod_sdk::routes!(app:
    GET "/" => hello,
    POST "/echo" => echo,
    PUT "/echo" => echo,
);

async fn hello(_request: Request) -> Result<Response> {
    Ok(Response::text("Hello, world!"))
}

async fn echo(request: Request) -> Result<Response> {
    let media_type = request.header("content-type").unwrap_or("application/octet-stream").to_owned();
    Ok(Response::new(200).with_header("content-type", media_type).with_body(request.body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use isopod_sdk::testing::block_on;

    #[test]
    fn it_greets() {
        let answer = block_on(app(Request::get("/"))).unwrap();
        assert_eq!(answer.body_text().unwrap(), "Hello, world!");
    }

    #[test]
    fn it_echoes() {
        let answer = block_on(app(Request::post("/echo").with_body("again"))).unwrap();
        assert_eq!(answer.body_text().unwrap(), "again");
    }
}
