// PeerDoor: the listening side of the peer port: accepts, finds out who knocks, and hands members on to their lanes.
//
// Thread     cairn:peer-door: one wait (poll) for the listeners and for everybody who has not said yet who he is. Nothing here
//            blocks on one of them, nothing waits for the pool.
// Strangers  A connection that has not introduced itself costs a socket and 5 KiB, is one of at most a few hundred (the
//            oldest goes first) and has five seconds. Each cause of a refusal is logged once a minute and counted.
// Sniffing   first byte: 0xF3 a member; a capital letter HTTP (served elsewhere, GET only); 0x16 TLS; the rest is garbage.
// TLS        On a secure listener only TLS is let in; its handshake costs time and waits for the other side, so it happens on a
//            thread of its own (TlsDoor), which then asks the same questions about what is said inside.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Net.Sockets;
using System.Text;
using Cairn.Base;
using Cairn.Core.Membership;

namespace Cairn.Net.Peer;

/// <summary>Accepts connections to the peer port.</summary>
internal sealed class PeerDoor
{
    private const int KnockingMax = 256;
    private const long PatienceNs = 5_000_000_000;
    private const int SweepMs = 250;
    private const int BufferBytes = PeerFrame.PrefaceBytes + PeerFrame.HeaderBytes + PeerHandshake.MaxBodyBytes;

    private readonly PeerTransport _transport;
    private readonly List<Socket> _listeners;
    private readonly int _firstSecure;
    private readonly TlsDoor _tls;
    private readonly List<Knock> _knocking = [];
    private readonly int _wake = SocketCalls.NewEvent();
    private readonly BlockingThread _thread;
    private PollEntry[] _entries = new PollEntry[16];
    private volatile bool _stopping;

    public PeerDoor(PeerTransport transport, IReadOnlyList<Socket> listeners, IReadOnlyList<Socket> secure)
    {
        _transport = transport;
        _listeners = [.. listeners, .. secure];
        _firstSecure = listeners.Count;
        _tls = new TlsDoor(transport, this);
        _thread = new BlockingThread("peer-door", Run, transport.Options.Fatal);
    }

    public void Start() => _thread.Start();

    /// <summary>Ends the thread and closes the listeners.</summary>
    public void Stop()
    {
        _stopping = true;
        SocketCalls.Signal(_wake);
        _thread.Join();
        foreach (Socket listener in _listeners)
        {
            listener.Dispose();
        }

        foreach (Knock knock in _knocking)
        {
            knock.Channel.Dispose();
        }

        _knocking.Clear();
        _tls.Stop();
        SocketCalls.Close(_wake);
    }

    private void Run()
    {
        foreach (Socket listener in _listeners)
        {
            listener.Blocking = false;
        }

        while (!_stopping)
        {
            int count = FillEntries();
            _ = SocketCalls.Wait(_entries.AsSpan(0, count), SweepMs);
            long now = _transport.Options.Clock.NowNs;
            int first = 1 + _listeners.Count;
            int knocking = count - first;

            // From the end, so that those who go leave the indexes of the others alone.
            for (int i = knocking - 1; i >= 0; i--)
            {
                Knock knock = _knocking[i];
                bool done = _entries[first + i].Seen != 0 && !Listen(knock);
                if (!done && now >= knock.DeadlineNs)
                {
                    Turn(knock, knock.Filled == 0 ? "said nothing" : "did not finish its first words", "");
                    done = true;
                }

                if (done)
                {
                    _knocking.RemoveAt(i);
                }
            }

            for (int i = 0; i < _listeners.Count; i++)
            {
                if (_entries[1 + i].Seen != 0)
                {
                    Accept(_listeners[i], now, i >= _firstSecure);
                }
            }

            _transport.Sweep(now);
        }
    }

    private int FillEntries()
    {
        int count = 1 + _listeners.Count + _knocking.Count;
        if (_entries.Length < count)
        {
            _entries = new PollEntry[count * 2];
        }

        _entries[0] = Entry(_wake);
        for (int i = 0; i < _listeners.Count; i++)
        {
            _entries[1 + i] = Entry((int)_listeners[i].SafeHandle.DangerousGetHandle());
        }

        for (int i = 0; i < _knocking.Count; i++)
        {
            _entries[1 + _listeners.Count + i] = Entry((int)_knocking[i].Channel.Socket.SafeHandle.DangerousGetHandle());
        }

        return count;
    }

    private static PollEntry Entry(int descriptor) => new() { Descriptor = descriptor, Wanted = SocketCalls.Readable };

    private void Accept(Socket listener, long nowNs, bool isSecure)
    {
        Socket socket;
        try
        {
            socket = listener.Accept();
            socket.Blocking = false;
            if (socket.AddressFamily != AddressFamily.Unix)
            {
                socket.NoDelay = true;
            }
        }
        catch (SocketException e)
        {
            // The client went away, or no descriptor is left; the next wait tries again.
            if (e.SocketErrorCode != SocketError.WouldBlock && _transport.Once.May("accept " + e.SocketErrorCode))
            {
                PeerLog.Refusing(_transport.Log, _transport.LocalLabel, "", "", "accept: " + e.Message);
            }

            return;
        }

        if (_knocking.Count == KnockingMax)
        {
            Turn(_knocking[0], "too many connections that did not say who they are", "");
            _knocking.RemoveAt(0);
        }

        _knocking.Add(new Knock(PeerChannel.Clear(socket), AddressOf(socket), nowNs + PatienceNs, isSecure));
    }

    // True: wait for more.
    private bool Listen(Knock knock)
    {
        int count;
        try
        {
            // Of TLS only the first byte is looked at, and left where it is.
            Span<byte> room = knock.IsSecure ? knock.Buffer.AsSpan(0, 1) : knock.Buffer.AsSpan(knock.Filled);
            count = knock.Channel.Socket.Receive(room, knock.IsSecure ? SocketFlags.Peek : SocketFlags.None, out SocketError error);
            if (error == SocketError.WouldBlock)
            {
                return true;
            }

            if (error != SocketError.Success)
            {
                count = 0;
            }
        }
        catch (SocketException)
        {
            count = 0;
        }

        if (count == 0)
        {
            LeftEarly(knock);
            return false;
        }

        if (!knock.IsSecure)
        {
            knock.Filled += count;
            return Consider(knock);
        }

        if (knock.Buffer[0] != 0x16)
        {
            Turn(knock, "cleartext, but this port is TLS: its URL begins with https", "");
        }
        else
        {
            _tls.Enter(knock.Channel.Socket, knock.Address, knock.DeadlineNs);
        }

        return false;
    }

    /// <summary>A port scanner, or a health check of a load balancer: not worth a line each.</summary>
    public void LeftEarly(Knock knock)
    {
        knock.Channel.Dispose();
        _transport.Strangers.ReceiveFailed();
    }

    /// <summary>Judges what has been said so far. True: more is needed; false: the connection has been dealt with.</summary>
    public bool Consider(Knock knock)
    {
        ReadOnlySpan<byte> said = knock.Buffer.AsSpan(0, knock.Filled);
        byte first = said[0];
        if (first == PeerFrame.Preface[0])
        {
            return Greet(knock, said);
        }

        if (first is < (byte)'A' or > (byte)'Z')
        {
            Turn(knock, first == 0x16 ? "a TLS client, but this port is cleartext" : "neither a member nor HTTP", "");
            return false;
        }

        return ListenHttp(knock, said);
    }

    private bool ListenHttp(Knock knock, ReadOnlySpan<byte> said)
    {
        if (said.StartsWith("PRI "u8))
        {
            Turn(knock, "an HTTP/2 client (gRPC?): clients belong to the client port", "");
            return false;
        }

        int end = said.IndexOf("\r\n\r\n"u8);
        if (end < 0)
        {
            if (knock.Filled < knock.Buffer.Length)
            {
                return true;
            }

            Turn(knock, "an HTTP request with a very long head", "");
            return false;
        }

        string head = Encoding.Latin1.GetString(said[..end]);
        if (head.Contains(" /raft", StringComparison.Ordinal) && _transport.Once.May("etcd"))
        {
            PeerLog.Refusing(
                _transport.Log, _transport.LocalLabel, knock.Address, "",
                "an etcd member: a cluster of etcd and Cairn members together is not supported");
        }

        if (!_transport.TryServeHttp(knock.Channel, head))
        {
            Turn(knock, "too many HTTP requests at once", "");
        }

        return false;
    }

    private bool Greet(Knock knock, ReadOnlySpan<byte> said)
    {
        int known = Math.Min(said.Length, PeerFrame.PrefaceBytes);
        if (!said[..known].SequenceEqual(PeerFrame.Preface[..known]))
        {
            Turn(knock, "neither a member nor HTTP", "");
            return false;
        }

        ReadOnlySpan<byte> frame = said[known..];
        if (frame.Length < PeerFrame.HeaderBytes)
        {
            return true;
        }

        if (!PeerFrame.TryReadHeader(frame, ConnectionLane.Urgent, out FrameHeader header) || header.Type != FrameType.Hello)
        {
            Turn(knock, "a first frame of impossible type or length", "");
            return false;
        }

        int length = PeerFrame.HeaderBytes + header.Length;
        if (frame.Length < length)
        {
            return true;
        }

        if (frame.Length > length || !PeerFrame.IsIntact(frame, frame.Slice(PeerFrame.HeaderBytes, header.Length))
            || !PeerHandshake.TryRead(frame.Slice(PeerFrame.HeaderBytes, header.Length), out PeerHello? hello))
        {
            Turn(knock, "a damaged handshake", "");
            return false;
        }

        Judge(knock, hello!);
        return false;
    }

    private void Judge(Knock knock, PeerHello hello)
    {
        PeerRefusal refusal = PeerHandshake.Judge(hello, _transport.Member.Identity, _transport.Judge);
        string label = MemberIds.ToText(hello.Identity.MemberId);
        if (refusal.Reason != RefusalReason.None)
        {
            _ = Answer(knock, PeerHandshake.Frame(refusal));
            Turn(knock, refusal.Text, label);
            return;
        }

        if (!Answer(knock, PeerHandshake.Frame(_transport.Hello(hello.Lane, hello.Identity.MemberId), FrameType.Welcome)))
        {
            knock.Channel.Dispose();
            return;
        }

        knock.Channel.Socket.Blocking = true;
        _transport.Accepted(knock.Channel, hello);
    }

    // A few hundred bytes into an empty buffer: all or nothing.
    private static bool Answer(Knock knock, byte[] frame)
    {
        try
        {
            if (!knock.IsSecure)
            {
                return knock.Channel.SendNow(frame) == frame.Length;
            }

            knock.Channel.SendAll(frame);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>Closes, counts, and says why once a minute.</summary>
    public void Turn(Knock knock, string reason, string member)
    {
        knock.Channel.Dispose();
        _transport.Strangers.ReceiveFailed();
        if (_transport.Once.May("knock " + member + reason))
        {
            PeerLog.Refusing(_transport.Log, _transport.LocalLabel, knock.Address, member, reason);
        }
    }

    private static string AddressOf(Socket socket)
    {
        try
        {
            return string.Create(CultureInfo.InvariantCulture, $"{socket.RemoteEndPoint}");
        }
        catch (SocketException)
        {
            return "";
        }
    }

    /// <summary>Somebody who has not said who he is.</summary>
    internal sealed class Knock(PeerChannel channel, string address, long deadlineNs, bool isSecure)
    {
        public PeerChannel Channel { get; } = channel;

        public string Address { get; } = address;

        public long DeadlineNs { get; } = deadlineNs;

        /// <summary>Came in by a secure listener; inside TLS once <see cref="Channel"/> is secure.</summary>
        public bool IsSecure { get; } = isSecure;

        public byte[] Buffer { get; } = new byte[BufferBytes];

        public int Filled { get; set; }
    }
}
