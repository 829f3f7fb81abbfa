// Bytes on a raw socket: what a well-behaved client library never sends.
using System;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading.Tasks;
using Xunit;

namespace Cairn.Net.Tests;

public sealed class SocketTests : IAsyncLifetime
{
    private static readonly byte[] Preface = Encoding.ASCII.GetBytes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    private static readonly byte[] EmptySettings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    private FrontFixture _front = null!;

    public async Task InitializeAsync() => _front = await FrontFixture.StartAsync();

    public async Task DisposeAsync() => await _front.DisposeAsync();

    [Fact]
    public async Task Preface_ByteByByte_IsHttp2()
    {
        using Socket socket = await ConnectAsync();
        foreach (byte b in Preface)
        {
            await socket.SendAsync(new[] { b });
        }

        await socket.SendAsync(EmptySettings);
        byte[] first = await ReceiveAsync(socket, 9);
        Assert.Equal(4, first[3]); // a SETTINGS frame
    }

    [Fact]
    public async Task Http11_ByteByByte_IsServed()
    {
        using Socket socket = await ConnectAsync();
        foreach (byte b in Encoding.ASCII.GetBytes("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"))
        {
            await socket.SendAsync(new[] { b });
        }

        string head = Encoding.ASCII.GetString(await ReceiveAsync(socket, 15));
        Assert.Equal("HTTP/1.1 200 OK", head);
    }

    [Theory]
    [InlineData("")]
    [InlineData("P")]
    [InlineData("PRI * HTT")]
    [InlineData("GET ")]
    public async Task Client_HangingUpEarly_HurtsNobody(string sent)
    {
        using (Socket socket = await ConnectAsync())
        {
            await socket.SendAsync(Encoding.ASCII.GetBytes(sent));
        }

        using var client = new GrpcClient(_front.Port);
        Assert.Equal(0, (await client.CallAsync("/t.Echo/Echo", [1])).Code);
    }

    [Theory]
    [InlineData("PRX nonsense\r\n\r\n")]
    [InlineData("\0\0\0\0\0\0\0\0\0\0\0\0\r\n\r\n")]
    [InlineData("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxx")]
    [InlineData("GET / HTTP/9.9\r\n\r\n")]
    public async Task Garbage_EndsTheConnection_AndHurtsNobody(string sent)
    {
        using (Socket socket = await ConnectAsync())
        {
            await socket.SendAsync(Encoding.Latin1.GetBytes(sent));
            byte[] buffer = new byte[4096];
            int total = 0;
            int count;
            do
            {
                count = await ReceiveOnceAsync(socket, buffer);
                total += count;
                Assert.InRange(total, 0, 4096);
            }
            while (count != 0);
        }

        using var client = new GrpcClient(_front.Port);
        Assert.Equal(0, (await client.CallAsync("/t.Echo/Echo", [1])).Code);
    }

    [Fact]
    public async Task Http2_OversizedHeaders_AreRefused()
    {
        using var client = new GrpcClient(_front.Port);
        await Assert.ThrowsAnyAsync<Exception>(
            () => client.CallAsync("/t.Echo/Echo", [1], ("x-large", new string('x', 200_000))));
        using var other = new GrpcClient(_front.Port);
        Assert.Equal(0, (await other.CallAsync("/t.Echo/Echo", [1])).Code);
    }

    private static async Task<int> ReceiveOnceAsync(Socket socket, byte[] buffer)
    {
        try
        {
            return await socket.ReceiveAsync(buffer).WaitAsync(TimeSpan.FromSeconds(20));
        }
        catch (SocketException)
        {
            return 0;
        }
    }

    private static async Task<byte[]> ReceiveAsync(Socket socket, int length)
    {
        byte[] bytes = new byte[length];
        int received = 0;
        while (received < length)
        {
            int count = await socket.ReceiveAsync(bytes.AsMemory(received), SocketFlags.None).AsTask().WaitAsync(TimeSpan.FromSeconds(20));
            Assert.NotEqual(0, count);
            received += count;
        }

        return bytes;
    }

    private async Task<Socket> ConnectAsync()
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(IPAddress.Loopback, _front.Port);
        return socket;
    }
}
