// TlsDoor: handshakes of those who came in by a secure listener, and what they say right behind them.
//
// Threads    cairn:tls-in, one for each handshake under way: it blocks on the other side, and does arithmetic that would hold
//            the door up. Never the pool: members must get in while it is busy.
// Bound      At most 64 at once, the oldest goes when one more comes; each has what is left of the five seconds that the door gives
//            everybody, for TLS and the first words together.
using System;
using System.Collections.Generic;
using System.Net.Sockets;
using System.Threading;
using Cairn.Base;
using Cairn.Net.Tls;

namespace Cairn.Net.Peer;

/// <summary>Lets in who is believed.</summary>
internal sealed class TlsDoor(PeerTransport transport, PeerDoor door)
{
    private const int AtOnceMax = 64;

    private readonly Lock _lock = new();
    private readonly List<Guest> _guests = [];
    private bool _stopped;

    /// <summary>Takes a connection over that begins with TLS. The door's thread.</summary>
    public void Enter(Socket socket, string address, long deadlineNs)
    {
        var guest = new Guest(socket);
        guest.Thread = new BlockingThread("tls-in", () => Serve(guest, address, deadlineNs), transport.Options.Fatal);
        Guest? oldest = null;
        bool stopped;
        lock (_lock)
        {
            stopped = _stopped;
            if (!stopped)
            {
                oldest = _guests.Count == AtOnceMax ? _guests[0] : null;
                if (oldest is not null)
                {
                    _guests.RemoveAt(0);
                }

                _guests.Add(guest);
            }
        }

        if (stopped)
        {
            socket.Dispose();
            return;
        }

        oldest?.End();
        guest.Thread.Start();
    }

    /// <summary>Ends all handshakes and waits for their threads.</summary>
    public void Stop()
    {
        List<Guest> guests;
        lock (_lock)
        {
            _stopped = true;
            guests = [.. _guests];
        }

        foreach (Guest guest in guests)
        {
            guest.End();
        }

        foreach (Guest guest in guests)
        {
            guest.Thread?.Join();
        }
    }

    private void Serve(Guest guest, string address, long deadlineNs)
    {
        PeerDoor.Knock? knock = null;
        try
        {
            guest.Socket.Blocking = true;
            guest.Socket.SendTimeout = (int)Math.Max(1, (deadlineNs - transport.Options.Clock.NowNs) / 1_000_000);
            var channel = PeerChannel.Accept(guest.Socket, transport.Options.Tls, transport.Options.Clock, deadlineNs);
            knock = new PeerDoor.Knock(channel, address, deadlineNs, isSecure: true);
            do
            {
                int count = channel.Receive(knock.Buffer.AsSpan(knock.Filled));
                if (count == 0)
                {
                    door.LeftEarly(knock);
                    break;
                }

                knock.Filled += count;
            }
            while (door.Consider(knock));
        }
        catch (TlsException e)
        {
            Refuse(guest, address, e.Message);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            if (knock is not null)
            {
                door.LeftEarly(knock);
            }
            else
            {
                Refuse(guest, address, "did not finish its handshake");
            }
        }

        lock (_lock)
        {
            _ = _guests.Remove(guest);
        }
    }

    private void Refuse(Guest guest, string address, string reason)
    {
        guest.Socket.Dispose();
        transport.Strangers.ReceiveFailed();

        // Not by the whole text: whoever shows certificates chooses part of it.
        if (transport.Once.May("tls " + reason[..Math.Min(24, reason.Length)]))
        {
            PeerLog.Refusing(transport.Log, transport.LocalLabel, address, "", reason);
        }
    }

    private sealed class Guest(Socket socket)
    {
        public Socket Socket { get; } = socket;

        public BlockingThread? Thread { get; set; }

        public void End()
        {
            try
            {
                Socket.Shutdown(SocketShutdown.Both);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // It was faster.
            }
        }
    }
}
