// ProcessTests: the published executable as a process: what it tells systemd, how signals end it, what a call costs it in
// garbage.
using System;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Cluster;

public sealed class ProcessTests
{
    [Fact]
    public async Task NotifySocket_Set_HearsReadyOnce()
    {
        using TempFolder folder = new();
        using Socket socket = new(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint(folder["notify"]));
        string script = Script(folder, "NOTIFY_SOCKET='" + folder["notify"] + "'");
        await using ServerProcess server = await ServerProcess.Start(script, folder["data"]);
        byte[] message = new byte[256];
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(30));
        int length = await socket.ReceiveAsync(message, SocketFlags.None, limit.Token);
        Assert.Equal("READY=1", Encoding.ASCII.GetString(message, 0, length));
    }

    [Fact]
    public async Task SecondSignal_WhileTheFirstWaitsForACall_EndsAtOnce()
    {
        // A running call may take 5 s and two election timeouts: 45 s here, so an end before that is the second signal's.
        using TempFolder folder = new();
        await using ServerProcess server = await ServerProcess.Cairn(
            folder["data"], null, "--election-timeout=20000", "--heartbeat-interval=1000");
        using HttpClient client = new();
        using Endless body = new();
        using HttpRequestMessage request = new(HttpMethod.Post, server.Url + Grpc.Put)
        {
            Version = HttpVersion.Version20, VersionPolicy = HttpVersionPolicy.RequestVersionExact, Content = body,
        };
        request.Content.Headers.TryAddWithoutValidation("content-type", "application/grpc");
        Task<HttpResponseMessage> call = client.SendAsync(request);
        await body.Begun.WaitAsync(TimeSpan.FromSeconds(30));
        await WaitFor(server, () => Started(server), "the call has not begun");

        long start = Environment.TickCount64;
        Task<int> stopped = server.Stop();
        await WaitFor(server, () => Task.FromResult(server.Log.Contains("received signal; shutting down", StringComparison.Ordinal)), "no stop");
        Assert.True(server.IsRunning);
        int code = await server.Stop();
        Assert.Equal(128 + 15, code);
        Assert.Equal(128 + 15, await stopped);
        Assert.True(Environment.TickCount64 - start < 40_000, "the second signal waited for the call");
        await Assert.ThrowsAnyAsync<Exception>(() => call.WaitAsync(TimeSpan.FromSeconds(30)));
    }

    [Fact]
    public async Task PutAndRange_InThePublishedBinary_CostNoMoreGarbageThanANullHandler()
    {
        using TempFolder folder = new();
        string script = Script(folder, "CAIRN_NULL_METHODS=1");
        await using ServerProcess server = await ServerProcess.Start(script, folder["data"], null, "--unsafe-no-fsync", "--snapshot-count=1000000");
        byte[] put = new Pb().Text(1, "some/key").Data(2, new byte[256]).Bytes;
        byte[] range = new Pb().Text(1, "some/key").Bytes;
        double atOnce = await BytesPerCall(server, "/cairn.Null/AtOnce", range);
        double later = await BytesPerCall(server, "/cairn.Null/Later", put);
        double puts = await BytesPerCall(server, Grpc.Put, put);
        double ranges = await BytesPerCall(server, Grpc.Range, range);
        string all = string.Create(
            CultureInfo.InvariantCulture, $"null at once {atOnce:F1}, null later {later:F1}, range {ranges:F1}, put {puts:F1}");
        Assert.True(ranges <= atOnce + 8, all);
        Assert.True(puts <= later + 8, all);

        await using ServerProcess plain = await ServerProcess.Cairn(folder["plain"]);
        Assert.Equal(12, (await plain.Client.Call("/cairn.Null/AtOnce", range)).Code);
    }

    /// <summary>
    /// The least of several rounds, less what a look at the counter costs: whether a body has arrived when its handler
    /// first looks is a race that costs the framework an object, and no call can be spared it.
    /// </summary>
    private static async Task<double> BytesPerCall(ServerProcess server, string method, byte[] request)
    {
        const int Calls = 3_000;
        for (int i = 0; i < 2_000; i++)
        {
            await server.Client.Call(method, request);
        }

        double least = double.MaxValue;
        double look = double.MaxValue;
        for (int round = 0; round < 4; round++)
        {
            double first = await Allocated(server);
            double before = await Allocated(server);
            look = Math.Min(look, before - first);
            for (int i = 0; i < Calls; i++)
            {
                await server.Client.Call(method, request);
            }

            least = Math.Min(least, await Allocated(server) - before);
        }

        return (least - look) / Calls;
    }

    private static async Task<double> Allocated(ServerProcess server)
    {
        const string Name = "\ndotnet_gc_allocated_bytes_total ";
        string page = await Page(server);
        int at = page.IndexOf(Name, StringComparison.Ordinal) + Name.Length;
        return double.Parse(page.AsSpan(at, page.IndexOf('\n', at) - at), CultureInfo.InvariantCulture);
    }

    private static async Task<bool> Started(ServerProcess server) => (await Page(server)).Contains(
        "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1\n", StringComparison.Ordinal);

    private static async Task<string> Page(ServerProcess server)
        => Encoding.UTF8.GetString((await PlainHttp.Send(server.ClientPort, "GET", "/metrics", [], [])).Body);

    private static async Task WaitFor(ServerProcess server, Func<Task<bool>> condition, string otherwise)
    {
        long limit = Environment.TickCount64 + 30_000;
        while (!await condition())
        {
            Assert.True(Environment.TickCount64 < limit, otherwise + "\n" + server.Tail());
            await Task.Delay(5);
        }
    }

    /// <summary>A starter that sets a variable for this one process.</summary>
    private static string Script(TempFolder folder, string assignment)
    {
        string script = folder["start"];
        File.WriteAllText(script, "#!/bin/sh\nexport " + assignment + "\nexec '" + Tools.Cairn + "' \"$@\"\n");
        File.SetUnixFileMode(script, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        return script;
    }

    /// <summary>A body that begins and never ends.</summary>
    private sealed class Endless : HttpContent
    {
        private readonly TaskCompletionSource _begun = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _end = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Begun => _begun.Task;

        protected override async Task SerializeToStreamAsync(Stream stream, TransportContext? context)
        {
            await stream.WriteAsync(new byte[] { 0, 0, 0, 0, 9, 1 });
            await stream.FlushAsync();
            _begun.TrySetResult();
            await _end.Task;
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }

        protected override void Dispose(bool disposing)
        {
            _end.TrySetResult();
            base.Dispose(disposing);
        }
    }
}
