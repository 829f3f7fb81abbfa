// The rules of RFC 9113 as a table: what a client sends, and what the RFC says must become of it, section by section. Our own
// engine. A case ends with a ping: a connection that still answers it has survived.
using System;
using System.Collections.Generic;
using System.Threading.Tasks;
using Cairn.Net.Host;
using Xunit;
using static Cairn.Net.Tests.H2Frame;
using static Cairn.Net.Tests.H2Peer;

namespace Cairn.Net.Tests;

public sealed class RulesTests : IAsyncLifetime
{
    private const string Echo = "/t.Echo/Echo", Wait = "/t.Echo/Wait";
    private const string Survives = "survives";

    private static readonly byte[] s_untilEnd = [];
    private static readonly byte[] s_ping = "anybody?"u8.ToArray();
    private static readonly Dictionary<string, Case> s_cases = Cases();

    private FrontFixture _front = null!;

    public static TheoryData<string> Names => new(s_cases.Keys);

    public async Task InitializeAsync()
        => _front = await FrontFixture.StartAsync(Http2Engine.Cairn, new FrontEndLimits { MaxConcurrentStreams = 100 });

    public async Task DisposeAsync() => await _front.DisposeAsync();

    [Theory]
    [MemberData(nameof(Names))]
    public async Task Frames_Sent_HaveTheOutcomeOfTheRfc(string name)
    {
        Case test = s_cases[name];
        using H2Peer peer = test.Raw ? await ConnectAsync(_front.Port) : await OpenAsync(_front.Port);
        string? outcome = null;
        try
        {
            foreach (byte[] frame in test.Frames)
            {
                if (frame.Length == 0)
                {
                    _ = await peer.UntilAsync(f => f.Ends);
                }
                else
                {
                    await peer.SendAsync(frame);
                }
            }

            await peer.SendAsync(Frame(H2.Ping, 0, 0, s_ping));
        }
        catch (System.Net.Sockets.SocketException)
        {
            // Ended while we were sending: its last words follow.
        }

        while (outcome is null && await peer.ReadAsync() is { } frame)
        {
            outcome = frame.Type switch
            {
                H2.GoAway => "connection " + frame.Code,
                H2.Reset => "stream " + frame.Stream + " " + frame.Code,
                H2.Ping when frame.Payload.AsSpan().SequenceEqual(s_ping) => Survives,
                _ => null,
            };
        }

        Assert.True(test.Outcome == (outcome ?? "closed"), $"{name}: {outcome ?? "closed"} instead of {test.Outcome}\n{string.Join('\n', peer.Seen)}");

        // Whatever one client does, the next one is served.
        using var client = new GrpcClient(_front.Port);
        Assert.Equal([7], (await client.CallAsync(Echo, [7])).Single);
    }

    private static byte[] Open(int stream, params byte[] block) => Frame(H2.Headers, EndHeaders, stream, block);

    private static byte[] Whole(int stream, params (string Name, string Value)[] headers)
        => Frame(H2.Headers, EndHeaders | EndStream, stream, Block(headers));

    private static (string Name, string Value)[] Without(string name) => Array.FindAll(Call(Wait), h => h.Name != name);

    private static Dictionary<string, Case> Cases()
    {
        var cases = new Dictionary<string, Case>(StringComparer.Ordinal);
        void Add(string name, string outcome, params byte[][] frames) => cases.Add(name, new Case(outcome, false, frames));
        void Raw(string name, string outcome, params byte[][] frames) => cases.Add(name, new Case(outcome, true, frames));
        byte[] good = Block(Call(Echo));
        byte[] settings = Frame(H2.Settings, 0, 0);
        byte[] priority = Frame(H2.Priority, 0, 1, 0, 0, 0, 0, 16);

        // 3.4 preface
        Raw("3.4 preface of something else", "connection 1", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"u8.ToArray()[..18], new byte[64]);
        Raw("3.4 first frame is a ping", "connection 1", Preface, Frame(H2.Ping, 0, 0, s_ping));
        Raw("3.4 first frame is an acknowledgement", "connection 1", Preface, Frame(H2.Settings, Ack, 0));

        // 4.1, 5.5 what is unknown is ignored
        Add("4.1 unknown type", Survives, Frame((H2)0x16, 0xff, 0, 1, 2, 3));
        Add("4.1 unknown type on an idle stream", Survives, Frame((H2)0x16, 0, 1, 1, 2, 3));
        Add("4.1 unknown flags", Survives, Frame(H2.Settings, 0xfe, 0));
        Add("4.1 reserved bit", Survives, Frame(H2.Settings, 0, int.MinValue));

        // 4.2 sizes
        Add("4.2 largest frame", Survives, Begin(1, Wait), Frame(H2.Data, 0, 1, new byte[16384]));
        Add("4.2 data beyond", "connection 6", Begin(1, Wait), Frame(H2.Data, 0, 1, new byte[16385]));
        Add("4.2 headers beyond", "connection 6", Frame(H2.Headers, 0, 1, new byte[16385]));
        Add("4.2 unknown beyond", "connection 6", Frame((H2)0x20, 0, 0, new byte[16385]));

        // 4.3 and 6.10 header blocks
        Add("4.3 block in four pieces", Survives,
            Frame(H2.Headers, 0, 1, good[..10]), Frame(H2.Continuation, 0, 1, good[10..11]), Frame(H2.Continuation, 0, 1),
            Frame(H2.Continuation, EndHeaders, 1, good[11..]), Message(1, 5), s_untilEnd);
        Add("4.3 priority inside", "connection 1", Frame(H2.Headers, 0, 1, good[..10]), priority);
        Add("4.3 unknown inside", "connection 1", Frame(H2.Headers, 0, 1, good[..10]), Frame((H2)0x16, 0, 0));
        Add("4.3 other headers inside", "connection 1", Frame(H2.Headers, 0, 1, good[..10]), Begin(3, Echo));
        Add("6.10 continuation of another stream", "connection 1", Frame(H2.Headers, 0, 1, good[..10]), Frame(H2.Continuation, EndHeaders, 3, good[10..]));
        Add("6.10 continuation behind the end", "connection 1", Begin(1, Wait), Frame(H2.Continuation, EndHeaders, 1, 0x82));
        Add("6.10 continuation alone", "connection 1", Frame(H2.Continuation, EndHeaders, 1, 0x82));
        Add("6.10 continuation on stream 0", "connection 1", Frame(H2.Headers, 0, 1, good[..10]), Frame(H2.Continuation, EndHeaders, 0, good[10..]));
        Add("4.3 no such index", "connection 9", Open(1, 0xff, 0x40));
        Add("4.3 index 0", "connection 9", Open(1, 0x80));
        Add("4.3 cut string", "connection 9", Open(1, 0x00, 0x05, 0x61));
        Add("4.3 size update at the end", "connection 9", Open(1, 0x82, 0x20));
        Add("4.3 size update too large", "connection 9", Open(1, 0x3f, 0xe1, 0xff, 0x03));

        // 5.1 states
        Add("5.1 data, idle", "connection 1", Frame(H2.Data, 0, 1, 1));
        Add("5.1 reset, idle", "connection 1", Frame(H2.Reset, 0, 1, Zero4));
        Add("5.1 window update, idle", "connection 1", WindowUpdate(1, 1));
        Add("5.1 priority, idle", Survives, priority);
        Add("5.1 data after the end", "stream 1 5", Begin(1, Wait), Message(1, 1), Frame(H2.Data, 0, 1, 1));
        Add("5.1 headers after the end", "stream 1 5", Begin(1, Wait), Message(1, 1), Frame(H2.Headers, EndHeaders | EndStream, 1, Block(("x", "y"))));
        Add("5.1 window update after the end", Survives, Begin(1, Wait), Message(1, 1), WindowUpdate(1, 100));
        Add("5.1 data, closed", "stream 1 5", Begin(1, Echo), Message(1, 1), s_untilEnd, Frame(H2.Data, 0, 1, 1));
        Add("5.1 headers, closed", "connection 5", Begin(1, Echo), Message(1, 1), s_untilEnd, Begin(1, Echo));
        Add("5.1 window update, closed", Survives, Begin(1, Echo), Message(1, 1), s_untilEnd, WindowUpdate(1, 1));
        Add("5.1 reset, closed", Survives, Begin(1, Echo), Message(1, 1), s_untilEnd, Frame(H2.Reset, 0, 1, Zero4));
        Add("5.1 priority, closed", Survives, Begin(1, Echo), Message(1, 1), s_untilEnd, priority);
        Add("5.1 data after a reset", "stream 1 5", Begin(1, Wait), Frame(H2.Reset, 0, 1, 0, 0, 0, 8), Frame(H2.Data, 0, 1, 1));
        Add("5.1 headers after a reset", "connection 5", Begin(1, Wait), Frame(H2.Reset, 0, 1, 0, 0, 0, 8), Begin(1, Echo));
        Add("5.1 data that crossed our reset", "stream 1 0", Begin(1, "/t.Nope/Nope"), s_untilEnd, Frame(H2.Data, 0, 1, 1));
        Add("5.1.1 even number", "connection 1", Begin(2, Echo));
        Add("5.1.1 smaller number", "connection 1", Begin(5, Wait), Begin(3, Echo));
        Add("5.1.2 too many streams", "stream 201 7", Many(101));

        // 6.1 to 6.9 frames
        Add("6.1 data on stream 0", "connection 1", Frame(H2.Data, 0, 0, 1));
        Add("6.1 padding", Survives, Begin(1, Echo), Frame(H2.Data, EndStream | Padded, 1, [2, .. GrpcClient.Frame([1]), 0, 0]), s_untilEnd);
        Add("6.1 padding as long as the frame", "connection 1", Begin(1, Wait), Frame(H2.Data, Padded, 1, 4, 0, 0, 0));
        Add("6.1 padding without its length", "connection 6", Begin(1, Wait), Frame(H2.Data, Padded, 1));
        Add("6.2 headers on stream 0", "connection 1", Open(0, good));
        Add("6.2 padding too long", "connection 1", Frame(H2.Headers, EndHeaders | Padded, 1, [200, .. good]));
        Add("6.2 padding and priority", Survives,
            Frame(H2.Headers, EndHeaders | Padded | HasPriority, 1, [1, 0, 0, 0, 0, 9, .. good, 0]), Message(1, 1), s_untilEnd);
        Add("6.2 half a priority", "connection 6", Frame(H2.Headers, EndHeaders | HasPriority, 1, 0, 0, 0));
        Add("6.3 priority on stream 0", "connection 1", Frame(H2.Priority, 0, 0, 0, 0, 0, 0, 1));
        Add("6.3 priority of four bytes", "connection 6", Frame(H2.Priority, 0, 1, 0, 0, 0, 0));
        Add("6.4 reset on stream 0", "connection 1", Frame(H2.Reset, 0, 0, Zero4));
        Add("6.4 reset of three bytes", "connection 6", Begin(1, Wait), Frame(H2.Reset, 0, 1, 0, 0, 0));
        Add("6.4 reset with an unknown code", Survives, Begin(1, Wait), Frame(H2.Reset, 0, 1, 0xff, 0, 0, 0));
        Add("6.5 acknowledgement with content", "connection 6", Frame(H2.Settings, Ack, 0, 0, 1, 0, 0, 0, 0));
        Add("6.5 settings on a stream", "connection 1", Frame(H2.Settings, 0, 1));
        Add("6.5 half a setting", "connection 6", Frame(H2.Settings, 0, 0, 0, 1, 0));
        Add("6.5.2 push 2", "connection 1", SettingsFrame((2, 2)));
        Add("6.5.2 push 1", Survives, SettingsFrame((2, 1)));
        Add("6.5.2 window 2^31", "connection 3", SettingsFrame((4, 1u << 31)));
        Add("6.5.2 window 2^31-1", Survives, SettingsFrame((4, int.MaxValue)));
        Add("6.5.2 frame 16383", "connection 1", SettingsFrame((5, 16383)));
        Add("6.5.2 frame 2^24", "connection 1", SettingsFrame((5, 1 << 24)));
        Add("6.5.2 frame 2^24-1", Survives, SettingsFrame((5, (1 << 24) - 1)));
        Add("6.5.2 unknown setting", Survives, SettingsFrame((0x77, 1), (0, 5)));
        Add("6.6 push promise", "connection 1", Frame(H2.Push, EndHeaders, 1, 0, 0, 0, 2, 0x82));
        Add("6.7 ping on a stream", "connection 1", Frame(H2.Ping, 0, 1, s_ping));
        Add("6.7 ping of seven bytes", "connection 6", Frame(H2.Ping, 0, 0, s_ping[..7]));
        Add("6.7 answer to no ping", Survives, Frame(H2.Ping, Ack, 0, new byte[8]));
        Add("6.8 goaway on a stream", "connection 1", Frame(H2.GoAway, 0, 1, new byte[8]));
        Add("6.8 goaway of seven bytes", "connection 6", Frame(H2.GoAway, 0, 0, new byte[7]));
        Add("6.9 step 0", "connection 1", WindowUpdate(0, 0));
        Add("6.9 step 0 of a stream", "stream 1 1", Begin(1, Wait), WindowUpdate(1, 0));
        Add("6.9 three bytes", "connection 6", Frame(H2.WindowUpdate, 0, 0, 0, 0, 1));
        Add("6.9.1 connection window beyond", "connection 3", WindowUpdate(0, int.MaxValue));
        Add("6.9.1 largest connection window", Survives, WindowUpdate(0, int.MaxValue - 65535));
        Add("6.9.1 stream window beyond", "stream 1 3", Begin(1, Wait), WindowUpdate(1, int.MaxValue));
        Add("6.9.2 stream window beyond by a setting", "connection 3", Begin(1, Wait), WindowUpdate(1, int.MaxValue - 65535), SettingsFrame((4, 65536)));
        Add("6.9.1 more than the stream window", "stream 1 3", [Begin(1, Wait), Frame(H2.Data, 0, 1, GrpcClient.Frame([1])), .. Pieces(1, 133)]);

        // 8.1 to 8.3 requests
        Add("8.1 second headers without end", "stream 1 1", Begin(1, Wait), Open(1, Block(("x", "y"))));
        Add("8.1 trailers", Survives, Begin(1, Echo), Frame(H2.Data, 0, 1, GrpcClient.Frame([1])), Whole(1, ("x", "y")));
        Add("8.1 trailers with a pseudo header", "stream 1 1", Begin(1, "/t.Echo/Pipe"), Whole(1, (":path", "/")));
        Add("8.1.1 too little content", "stream 1 1", Begin(1, Wait, ("content-length", "7")), Message(1, 1));
        Add("8.1.1 too much content", "stream 1 1", Begin(1, Wait, ("content-length", "5")), Frame(H2.Data, 0, 1, GrpcClient.Frame([1])));
        Add("8.1.1 announced content that is not there", "stream 1 1", Whole(1, Call(Wait, ("content-length", "6"))));
        Add("8.1.1 a length that is no number", "stream 1 1", Begin(1, Wait, ("content-length", "six")));
        Add("8.2 upper case", "stream 1 1", Begin(1, Wait, ("X-Name", "y")));
        Add("8.2 colon in a name", "stream 1 1", Begin(1, Wait, ("x:y", "z")));
        Add("8.2 empty name", "stream 1 1", Begin(1, Wait, ("", "z")));
        Add("8.2 line break in a value", "stream 1 1", Begin(1, Wait, ("x", "a\r\nb: c")));
        Add("8.2.2 connection", "stream 1 1", Begin(1, Wait, ("connection", "keep-alive")));
        Add("8.2.2 transfer-encoding", "stream 1 1", Begin(1, Wait, ("transfer-encoding", "chunked")));
        Add("8.2.2 te", "stream 1 1", Open(1, Block([.. Without("te"), ("te", "gzip")])));
        Add("8.3 unknown pseudo header", "stream 1 1", Open(1, Block([(":x", "y"), .. Call(Wait)])));
        Add("8.3 status in a request", "stream 1 1", Open(1, Block([(":status", "200"), .. Call(Wait)])));
        Add("8.3 pseudo header behind others", "stream 1 1", Open(1, Block([("x", "y"), .. Call(Wait)])));
        Add("8.3.1 no method", "stream 1 1", Open(1, Block(Without(":method"))));
        Add("8.3.1 no scheme", "stream 1 1", Open(1, Block(Without(":scheme"))));
        Add("8.3.1 no path", "stream 1 1", Open(1, Block(Without(":path"))));
        Add("8.3.1 empty path", "stream 1 1", Open(1, Block([.. Without(":path")[..2], (":path", ""), ("content-type", "application/grpc")])));
        Add("8.3.1 two methods", "stream 1 1", Open(1, Block([(":method", "POST"), .. Call(Wait)])));
        Add("8.5 connect", "stream 1 1", Open(1, Block((":method", "CONNECT"), (":authority", "x:1"))));
        Add("10.5.1 header list above what we announced", "stream 1 11", Pieced(1, Block(Call(Wait, Bulk(40)))));
        return cases;
    }

    // More than 64 KiB by HPACK's counting in a block below 64 KiB.
    private static (string Name, string Value)[] Bulk(int count)
    {
        var headers = new (string, string)[count * 20];
        for (int i = 0; i < headers.Length; i++)
        {
            headers[i] = ("x" + i, new string('v', 48));
        }

        return headers;
    }

    private static byte[][] Pieced(int stream, byte[] block)
    {
        var frames = new List<byte[]>();
        for (int at = 0; at < block.Length; at += 16384)
        {
            bool last = at + 16384 >= block.Length;
            frames.Add(Frame(at == 0 ? H2.Headers : H2.Continuation, last ? EndHeaders : (byte)0, stream, block[at..Math.Min(block.Length, at + 16384)]));
        }

        return [.. frames];
    }

    private static byte[][] Pieces(int stream, int count)
    {
        byte[][] frames = new byte[count][];
        Array.Fill(frames, Frame(H2.Data, 0, stream, new byte[16384]));
        return frames;
    }

    private static byte[][] Many(int count)
    {
        byte[][] frames = new byte[count][];
        for (int i = 0; i < count; i++)
        {
            frames[i] = Begin((2 * i) + 1, Wait);
        }

        return frames;
    }

    private sealed record Case(string Outcome, bool Raw, byte[][] Frames);
}
