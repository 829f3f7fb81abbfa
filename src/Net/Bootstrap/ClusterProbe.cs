// ClusterProbe: asks the peer ports of running members over HTTP, with TLS where their URLs say so, before this member is one of them. Cold; pool threads.
using System;
using System.Collections.Generic;
using System.IO;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Core.Membership;
using Cairn.Net.Host;
using Cairn.Net.Tls;

namespace Cairn.Net.Bootstrap;

/// <summary>Questions to peer ports. Answers are bounded; a wrong one counts as none.</summary>
internal sealed class ClusterProbe : IDisposable
{
    private const long AnswerBytesMax = 4 << 20;

    private readonly HttpClient _client;
    private readonly Action<string, string> _failed;

    /// <param name="tls">Certificates of this member as a peer.</param>
    /// <param name="failed">Told URL and error of each question that found no answer.</param>
    public ClusterProbe(TlsEndpoint tls, Action<string, string> failed)
    {
        _failed = failed;
        _client = new HttpClient(new SocketsHttpHandler
        {
            UseProxy = false,
            AllowAutoRedirect = false,
            PooledConnectionLifetime = TimeSpan.Zero,
            SslOptions = tls.ForHttp(),
        })
        {
            MaxResponseContentBufferSize = AnswerBytesMax,
            Timeout = Timeout.InfiniteTimeSpan,
        };
    }

    /// <summary>The member list of the first peer that gives one, in sorted order; null when none does.</summary>
    public async Task<RemoteCluster?> FindClusterAsync(IEnumerable<string> urls, TimeSpan each)
    {
        var sorted = new List<string>(urls);
        sorted.Sort(StringComparer.Ordinal);
        foreach (string url in sorted)
        {
            (byte[] Body, string ClusterId)? answer = await GetAsync(url, "/members", each);
            if (answer is not { } found)
            {
                continue;
            }

            if (MemberIds.TryParse(found.ClusterId.AsSpan(), out ulong clusterId)
                && TryParseMembers(found.Body, out List<ClusterMember> members) && members.Count != 0)
            {
                return new RemoteCluster(clusterId, members);
            }

            _failed(url + "/members", "the answer is not a list of members");
        }

        return null;
    }

    /// <summary>What a member reports as versions; null without an answer.</summary>
    public async Task<RemoteVersions?> VersionsAsync(string url, TimeSpan limit)
    {
        if (await GetAsync(url, "/version", limit) is not { } answer)
        {
            return null;
        }

        try
        {
            using JsonDocument json = JsonDocument.Parse(answer.Body);
            return new RemoteVersions(Text(json, "etcdserver"), Text(json, "etcdcluster"));
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            return null;
        }
    }

    /// <summary>Whether a member says that a downgrade is under way; false without an answer.</summary>
    public async Task<bool> IsDowngradingAsync(string url, TimeSpan limit)
        => await GetAsync(url, "/downgrade/enabled", limit) is { } answer && Encoding.ASCII.GetString(answer.Body).Trim() == "true";

    public void Dispose() => _client.Dispose();

    /// <summary>A JSON array of members as <c>/members</c> gives it.</summary>
    internal static bool TryParseMembers(byte[] body, out List<ClusterMember> members)
    {
        members = [];
        try
        {
            using JsonDocument json = JsonDocument.Parse(body);
            if (json.RootElement.ValueKind != JsonValueKind.Array)
            {
                return false;
            }

            foreach (JsonElement item in json.RootElement.EnumerateArray())
            {
                members.Add(ClusterMember.ParseJson(Encoding.UTF8.GetBytes(item.GetRawText())));
            }

            members.Sort(static (a, b) => a.Id.CompareTo(b.Id));
            return true;
        }
        catch (Exception e) when (e is JsonException or InvalidDataException or InvalidOperationException)
        {
            return false;
        }
    }

    private static string Text(JsonDocument json, string name)
        => json.RootElement.TryGetProperty(name, out JsonElement value) ? value.GetString() ?? "" : "";

    private async Task<(byte[] Body, string ClusterId)?> GetAsync(string url, string path, TimeSpan limit)
    {
        if (!ListenUrl.TryParse(url, out ListenUrl address, out string problem) || address.IsUnix)
        {
            _failed(url + path, problem.Length == 0 ? "unix sockets cannot be asked" : problem);
            return null;
        }

        using var deadline = new CancellationTokenSource(limit);
        try
        {
            using HttpResponseMessage answer = await _client.GetAsync(address.Text + path, deadline.Token);
            if (!answer.IsSuccessStatusCode)
            {
                _failed(url + path, "status " + (int)answer.StatusCode);
                return null;
            }

            byte[] body = await answer.Content.ReadAsByteArrayAsync(deadline.Token);
            return (body, HeaderOf(answer.Headers));
        }
        catch (Exception e) when (e is HttpRequestException or OperationCanceledException or SocketException or IOException)
        {
            _failed(url + path, e is OperationCanceledException ? "context deadline exceeded" : (e.InnerException ?? e).Message);
            return null;
        }
    }

    private static string HeaderOf(HttpResponseHeaders headers)
    {
        if (headers.TryGetValues("X-Etcd-Cluster-ID", out IEnumerable<string>? values))
        {
            foreach (string value in values)
            {
                return value;
            }
        }

        return "";
    }
}
