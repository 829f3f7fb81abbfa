// The gRPC layer through a real socket. Expected codes and texts are those a real etcd 3.5.30 gave to the same bytes.
using System;
using System.IO;
using System.IO.Compression;
using System.Net.Http;
using System.Threading.Tasks;
using Cairn.Net.Rpc;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class RpcServerTests : IAsyncLifetime
{
    private FrontFixture _front = null!;
    private GrpcClient _client = null!;

    public async Task InitializeAsync()
    {
        _front = await FrontFixture.StartAsync();
        _client = new GrpcClient(_front.Port);
    }

    public async Task DisposeAsync()
    {
        _client.Dispose();
        await _front.DisposeAsync();
    }

    [Theory]
    [InlineData("/t.Echo/Echo", 0)]
    [InlineData("/t.Echo/Echo", 1)]
    [InlineData("/t.Echo/Echo", 5000)]
    [InlineData("/t.Echo/Echo", FrontFixture.MaxMessage)]
    [InlineData("/t.Echo/Steps", 300)]
    public async Task Unary_Message_ComesBack(string path, int length)
    {
        byte[] message = new byte[length];
        new Random(length).NextBytes(message);
        GrpcAnswer answer = await _client.CallAsync(path, message);
        Assert.Equal((200, 0), (answer.HttpStatus, answer.Code));
        Assert.Equal(message, answer.Single);
    }

    [Fact]
    public async Task Unary_ManyOnOneConnection_EachGetsItsOwnAnswer()
    {
        var calls = new Task<GrpcAnswer>[200];
        for (int i = 0; i < calls.Length; i++)
        {
            calls[i] = _client.CallAsync(i % 2 == 0 ? "/t.Echo/Echo" : "/t.Echo/Steps", BitConverter.GetBytes(i));
        }

        for (int i = 0; i < calls.Length; i++)
        {
            Assert.Equal(BitConverter.GetBytes(i), (await calls[i]).Single);
        }
    }

    [Fact]
    public async Task ServerStream_SendsEveryMessage()
    {
        GrpcAnswer answer = await _client.CallAsync("/t.Echo/Many", [100]);
        Assert.Equal(0, answer.Code);
        Assert.Equal(100, answer.Messages.Count);
        for (int i = 0; i < 100; i++)
        {
            Assert.Equal([(byte)i], answer.Messages[i]);
        }
    }

    [Fact]
    public async Task ServerStream_WithoutMessages_IsOk()
    {
        GrpcAnswer answer = await _client.CallAsync("/t.Echo/Many", [0]);
        Assert.Equal(0, answer.Code);
        Assert.Empty(answer.Messages);
    }

    [Fact]
    public async Task BidiStream_MessagesInOneBody_AreReadOneByOne()
    {
        byte[] body = [.. GrpcClient.Frame([1]), .. GrpcClient.Frame([]), .. GrpcClient.Frame(new byte[9000])];
        GrpcAnswer answer = await _client.SendAsync("/t.Echo/Pipe", body);
        Assert.Equal(0, answer.Code);
        Assert.Equal([1, 0, 9000], answer.Messages.ConvertAll(m => m.Length));
    }

    [Theory]
    [InlineData("00 00 00 00 05 61 62 63", 2, "unexpected EOF")]
    [InlineData("00 00", 2, "EOF")]
    [InlineData("", 2, "EOF")]
    [InlineData("02 00 00 00 00", 13, "grpc: received unexpected payload format 2")]
    [InlineData("01 00 00 00 03 0a 01 61", 13, "grpc: compressed flag set with identity or empty encoding")]
    [InlineData("00 00 01 86 a1 00", 8, "grpc: received message larger than max (100001 vs. 100000)")]
    [InlineData("00 ff ff ff ff 00", 8, "grpc: received message larger than max (4294967295 vs. 100000)")]
    public async Task Unary_BadFrame_GetsGrpcsWords(string hex, int code, string message)
    {
        GrpcAnswer answer = await _client.SendAsync("/t.Echo/Echo", Convert.FromHexString(hex.Replace(" ", "")));
        Assert.Equal((200, code, message), (answer.HttpStatus, answer.Code, answer.Message));
    }

    [Theory]
    [InlineData("/t.Echo/Nope", "unknown method Nope for service t.Echo")]
    [InlineData("/t.Echo/Later", "unknown method Later for service t.Echo")]
    [InlineData("/t.Echo/echo", "unknown method echo for service t.Echo")]
    [InlineData("/t.Nope/Echo", "unknown service t.Nope")]
    [InlineData("/Range", "malformed method name: \"/Range\"")]
    public async Task Path_NotServed_IsUnimplemented(string path, string message)
    {
        GrpcAnswer answer = await _client.CallAsync(path, []);
        Assert.Equal((200, 12, message), (answer.HttpStatus, answer.Code, answer.Message));
    }

    [Theory]
    [InlineData("application/json", 415, 3, "invalid gRPC request content-type \"application/json\"")]
    [InlineData("", 415, 3, "invalid gRPC request content-type \"\"")]
    [InlineData("application/grpc+proto", 200, 0, "")]
    public async Task ContentType_IsChecked(string type, int http, int code, string message)
    {
        GrpcAnswer answer = await _client.SendAsync("/t.Echo/Echo", GrpcClient.Frame([]), ("content-type", type));
        Assert.Equal((http, code, message), (answer.HttpStatus, answer.Code, answer.Message));
    }

    [Fact]
    public async Task Method_OtherThanPost_IsRefused()
    {
        GrpcAnswer answer = await _client.SendAsync("/t.Echo/Echo", GrpcClient.Frame([]), (":method", "PUT"));
        Assert.Equal(
            (405, 13, "Received a HEADERS frame with :method \"PUT\" which should be POST"),
            (answer.HttpStatus, answer.Code, answer.Message));
    }

    [Fact]
    public async Task Timeout_Malformed_IsRefused()
    {
        GrpcAnswer answer = await _client.CallAsync("/t.Echo/Echo", [], ("grpc-timeout", "5"));
        Assert.Equal(
            (400, 13, "malformed grpc-timeout: transport: timeout string is too short: \"5\""),
            (answer.HttpStatus, answer.Code, answer.Message));
    }

    [Theory]
    [InlineData("0n", "/t.Echo/Echo")]
    [InlineData("20m", "/t.Echo/Wait")]
    public async Task Timeout_Passed_IsDeadlineExceeded(string timeout, string path)
    {
        GrpcAnswer answer = await _client.CallAsync(path, [], ("grpc-timeout", timeout));
        Assert.Equal((4, "context deadline exceeded"), (answer.Code, answer.Message));
    }

    [Fact]
    public async Task Gzip_Request_IsAnsweredInGzip()
    {
        byte[] message = new byte[20_000];
        byte[] frame = GrpcClient.Frame(Pack(message), flag: 1);
        Assert.InRange(frame.Length, 10, 1000);
        GrpcAnswer answer = await _client.SendAsync("/t.Echo/Echo", frame, ("grpc-encoding", "gzip"));
        Assert.Equal(0, answer.Code);
        Assert.Equal(message, answer.Single);
        Assert.Equal(["gzip"], answer.Headers.GetValues("grpc-encoding"));
    }

    [Fact]
    public async Task Gzip_Bomb_IsCutAtTheLimit()
    {
        byte[] frame = GrpcClient.Frame(Pack(new byte[50_000_000]), flag: 1);
        GrpcAnswer answer = await _client.SendAsync("/t.Echo/Echo", frame, ("grpc-encoding", "gzip"));
        Assert.Equal(
            (8, "grpc: received message after decompression larger than max 100000"), (answer.Code, answer.Message));
    }

    [Fact]
    public async Task Gzip_Garbage_IsInternal()
    {
        GrpcAnswer answer = await _client.SendAsync(
            "/t.Echo/Echo", GrpcClient.Frame([1, 2, 3], flag: 1), ("grpc-encoding", "gzip"));
        Assert.Equal(13, answer.Code);
        Assert.StartsWith("grpc: failed to decompress", answer.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Encoding_Unknown_IsUnimplemented()
    {
        GrpcAnswer answer = await _client.CallAsync("/t.Echo/Echo", [], ("grpc-encoding", "snappy"));
        Assert.Equal((12, "grpc: Decompressor is not installed for grpc-encoding \"snappy\""), (answer.Code, answer.Message));
    }

    [Fact]
    public async Task Handler_Throwing_AnswersInternalAndTellsNothing()
    {
        GrpcAnswer answer = await _client.CallAsync("/t.Echo/Throw", []);
        Assert.Equal((13, "internal error"), (answer.Code, answer.Message));
        Assert.Equal([7], (await _client.CallAsync("/t.Echo/Echo", [7])).Single);
    }

    [Fact]
    public async Task Handler_WithoutAnswer_AnswersInternal()
        => Assert.Equal(13, (await _client.CallAsync("/t.Echo/Silent", [])).Code);

    [Fact]
    public async Task Status_OddMessage_ArrivesIntact()
    {
        GrpcAnswer answer = await _client.CallAsync("/t.Echo/Fail", []);
        Assert.Equal((15, "50% — gone\n"), (answer.Code, answer.Message));
    }

    [Fact]
    public async Task Counters_FollowEachCall()
    {
        await _client.CallAsync("/t.Echo/Many", [3]);
        await _client.CallAsync("/t.Echo/Fail", []);
        Assert.True(_front.State.Table.Find("/t.Echo/Many", out _) is
            { Started: 1, MessagesReceived: 1, MessagesSent: 3 } many && many.Handled(RpcCode.Ok) == 1);
        Assert.True(_front.State.Table.Find("/t.Echo/Fail", out _) is { Started: 1, MessagesSent: 0 } fail
            && fail.Handled(RpcCode.DataLoss) == 1 && fail.Handled(RpcCode.Ok) == 0);
    }

    [Fact]
    public async Task Http11_OnTheSamePort_GetsPages()
    {
        using var http = new HttpClient();
        string body = await http.GetStringAsync(new Uri($"http://127.0.0.1:{_front.Port}/a%20b?c=d"));
        Assert.Equal("GET /a%20b c=d", body);
    }

    private static byte[] Pack(byte[] plain)
    {
        using var packed = new MemoryStream();
        using (var gzip = new GZipStream(packed, CompressionLevel.Optimal))
        {
            gzip.Write(plain);
        }

        return packed.ToArray();
    }
}
