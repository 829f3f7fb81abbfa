// Systemd: tells the service manager that clients can connect (sd_notify, the one message etcd sends too).
// Source: https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
using System;
using System.Net.Sockets;
using System.Text;

namespace Cairn.Native;

/// <summary>The ready message.</summary>
internal static class Systemd
{
    /// <summary>Sends <c>READY=1</c> to the socket in NOTIFY_SOCKET, if there is one.</summary>
    /// <returns>Null, or why it could not be sent.</returns>
    public static string? NotifyReady()
    {
        string? path = Environment.GetEnvironmentVariable("NOTIFY_SOCKET");
        if (string.IsNullOrEmpty(path))
        {
            return null;
        }

        try
        {
            // An abstract address begins with '@', which stands for a zero byte.
            string address = path[0] == '@' ? "\0" + path[1..] : path;
            using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
            socket.Connect(new UnixDomainSocketEndPoint(address));
            _ = socket.Send(Encoding.ASCII.GetBytes("READY=1"));
            return null;
        }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            return e.Message;
        }
    }
}
