// The hub that people would write with uWebSockets: everybody subscribes to one topic, a posted text goes to all.
// Prints its ready line when it listens on a free port of 127.0.0.1.

#include <App.h>
#include <cstdio>
#include <string>
#include <string_view>

namespace {

constexpr const char* kTopic = "all";
constexpr size_t kPublishBytesMax = 1 << 20;

struct Nothing {};

void publish(uWS::App& app, uWS::HttpResponse<false>* response) {
    response->onAborted([] {});
    response->onData([&app, response, text = std::string()](std::string_view part, bool last) mutable {
        if (text.size() + part.size() > kPublishBytesMax) {
            response->close();
            return;
        }
        text.append(part);
        if (last) {
            app.publish(kTopic, text, uWS::OpCode::TEXT, false);
            response->writeStatus("204 No Content")->end();
        }
    });
}

}  // namespace

int main() {
    uWS::App app;
    app.ws<Nothing>("/connect", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 64 * 1024,
        .idleTimeout = 0,
        .maxBackpressure = 1 << 20,
        .sendPingsAutomatically = false,
        .open = [](auto* socket) { socket->subscribe(kTopic); },
    });
    app.post("/publish", [&app](auto* response, auto*) { publish(app, response); });
    bool listens = false;
    app.listen("127.0.0.1", 0, [&listens](us_listen_socket_t* socket) {
        if (socket == nullptr) {
            return;
        }
        listens = true;
        const int port = us_socket_local_port(0, reinterpret_cast<us_socket_t*>(socket));
        std::printf("{\"event\":\"ready\",\"public\":\"127.0.0.1:%d\",\"private\":\"127.0.0.1:%d\"}\n", port, port);
        std::fflush(stdout);
    });
    if (!listens) {
        std::fputs("uWebSockets found no free port on 127.0.0.1\n", stderr);
        return 1;
    }
    app.run();
}
