// PeerUrls: are two lists of URLs the same places? As text first; where texts differ, names are resolved, as etcd does.
//
// Rules      Lists are compared in sorted order. localhost and unix addresses are never resolved, so "localhost" and
//            "127.0.0.1" differ. A name that does not resolve is tried again every second until the deadline.
using System;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Net.Host;

namespace Cairn.Net.Bootstrap;

/// <summary>Name to address; null when it does not resolve now.</summary>
internal delegate ValueTask<IPAddress?> NameResolver(string host, CancellationToken cancelled);

/// <summary>Comparison of URL lists.</summary>
internal static class PeerUrls
{
    private static readonly TimeSpan s_retry = TimeSpan.FromSeconds(1);

    /// <summary>The system's resolver.</summary>
    public static async ValueTask<IPAddress?> ResolveAsync(string host, CancellationToken cancelled)
    {
        try
        {
            IPAddress[] addresses = await Dns.GetHostAddressesAsync(host, cancelled);
            foreach (IPAddress address in addresses)
            {
                if (address.AddressFamily == AddressFamily.InterNetwork)
                {
                    return address;
                }
            }

            return addresses.Length == 0 ? null : addresses[0];
        }
        catch (SocketException)
        {
            return null;
        }
    }

    /// <summary>Null when both name the same places; else etcd's words for the first difference.</summary>
    public static async ValueTask<string?> CompareAsync(
        IReadOnlyList<string> left, IReadOnlyList<string> right, NameResolver resolver, CancellationToken deadline)
    {
        if (left.Count != right.Count)
        {
            return "len(" + Show(left) + ") != len(" + Show(right) + ")";
        }

        List<string> a = [.. left], b = [.. right];
        a.Sort(StringComparer.Ordinal);
        b.Sort(StringComparer.Ordinal);
        if (Same(a, b))
        {
            return null;
        }

        try
        {
            await ResolveAllAsync(a, resolver, deadline);
            await ResolveAllAsync(b, resolver, deadline);
        }
        catch (OperationCanceledException)
        {
            return "context deadline exceeded";
        }

        a.Sort(StringComparer.Ordinal);
        b.Sort(StringComparer.Ordinal);
        for (int i = 0; i < a.Count; i++)
        {
            if (a[i] != b[i])
            {
                return "resolved urls: \"" + a[i] + "\" != \"" + b[i] + "\"";
            }
        }

        return null;
    }

    /// <summary>A list as Go prints it.</summary>
    public static string Show(IReadOnlyList<string> urls) => "[" + string.Join(' ', urls) + "]";

    private static bool Same(List<string> a, List<string> b)
    {
        for (int i = 0; i < a.Count; i++)
        {
            if (a[i] != b[i])
            {
                return false;
            }
        }

        return true;
    }

    private static async ValueTask ResolveAllAsync(List<string> urls, NameResolver resolver, CancellationToken deadline)
    {
        for (int i = 0; i < urls.Count; i++)
        {
            if (!ListenUrl.TryParse(urls[i], out ListenUrl url, out _) || url.IsUnix || url.Host == "localhost"
                || IPAddress.TryParse(url.Host, out _))
            {
                continue;
            }

            IPAddress? address;
            while ((address = await resolver(url.Host, deadline)) is null)
            {
                await Task.Delay(s_retry, deadline);
            }

            string host = address.AddressFamily == AddressFamily.InterNetworkV6 ? "[" + address + "]" : address.ToString();
            urls[i] = url.Scheme + "://" + host + ":" + url.Port.ToString(System.Globalization.CultureInfo.InvariantCulture);
        }
    }
}
