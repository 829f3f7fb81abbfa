// SrvDiscovery: the members of a new cluster from DNS: SRV records _etcd-server-ssl._tcp and _etcd-server._tcp of a domain.
//
// Rules      Both services are asked, answers merged; only both failing is a failure. The record whose target is where this
//            member says it listens gets this member's name, the others get "0", "1", … in the order they came.
//            https records need https advertised, http ones http.
using System;
using System.Collections.Generic;
using System.Globalization;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using Cairn.Core.Server;
using Cairn.Net.Host;
using DnsClient;
using DnsClient.Protocol;

namespace Cairn.Net.Bootstrap;

/// <summary>One record: where a member listens.</summary>
/// <param name="Scheme">http or https, by the service that was asked.</param>
/// <param name="Host">Target, without the dot at its end.</param>
/// <param name="Port">Port.</param>
internal readonly record struct SrvTarget(string Scheme, string Host, int Port);

/// <summary>Asks DNS, and turns records into an initial cluster.</summary>
internal static class SrvDiscovery
{
    /// <summary>Asks for both services; throws when neither has an answer.</summary>
    /// <exception cref="MemberStartException">In etcd's words.</exception>
    public static async Task<List<SrvTarget>> QueryAsync(DiscoveryOptions options, CancellationToken cancelled)
    {
        LookupClient client = options.NameServer is { } server
            ? new LookupClient(new LookupClientOptions(server) { UseCache = false, Timeout = TimeSpan.FromSeconds(3), Retries = 1 })
            : new LookupClient(new LookupClientOptions { UseCache = false });
        var targets = new List<SrvTarget>();
        var errors = new List<string>();
        string suffix = options.SrvName.Length == 0 ? "" : "-" + options.SrvName;
        foreach ((string service, string scheme) in new[] { ("etcd-server-ssl", "https"), ("etcd-server", "http") })
        {
            string name = "_" + service + suffix + "._tcp." + options.SrvDomain;
            string error = await QueryAsync(client, name, scheme, targets, cancelled);
            if (error.Length != 0)
            {
                errors.Add("error querying DNS SRV records for _" + service + suffix + " " + error);
            }
        }

        return targets.Count != 0
            ? targets
            : throw new MemberStartException("error setting up initial cluster: " + string.Join("; ", errors));
    }

    /// <summary>Records to members. Pure but for the resolver.</summary>
    /// <exception cref="MemberStartException">This member is not among them, or talks another scheme.</exception>
    public static async Task<List<InitialMember>> NameAsync(
        MemberOptions options, IReadOnlyList<SrvTarget> targets, NameResolver resolver, CancellationToken cancelled)
    {
        var own = new List<ListenUrl>();
        foreach (string text in options.InitialAdvertisePeerUrls)
        {
            if (ListenUrl.TryParse(text, out ListenUrl url, out _))
            {
                own.Add(url);
            }
        }

        var members = new List<InitialMember>();
        int number = 0;
        foreach (SrvTarget target in targets)
        {
            string authority = target.Host + ":" + target.Port.ToString(CultureInfo.InvariantCulture);
            string url = target.Scheme + "://" + authority;
            bool isOwn = false;
            foreach (ListenUrl mine in own)
            {
                if (!await IsSamePlaceAsync(mine, target, resolver, cancelled))
                {
                    continue;
                }

                if (mine.Scheme != target.Scheme)
                {
                    throw new MemberStartException(
                        "error setting up initial cluster: advertise peer URL " + mine.Text + " and the SRV record "
                        + url + " differ in their scheme");
                }

                isOwn = true;
            }

            string name = isOwn ? options.Name : (number++).ToString(CultureInfo.InvariantCulture);
            int known = members.FindIndex(member => member.Name == name);
            if (known < 0)
            {
                members.Add(new InitialMember(name, [url]));
            }
            else
            {
                members[known] = new InitialMember(name, [.. members[known].PeerUrls, url]);
            }
        }

        return members.Exists(member => member.Name == options.Name)
            ? members
            : throw new MemberStartException(
                "error setting up initial cluster: cannot find local etcd member \"" + options.Name + "\" in SRV records");
    }

    private static async Task<string> QueryAsync(
        LookupClient client, string name, string scheme, List<SrvTarget> targets, CancellationToken cancelled)
    {
        try
        {
            IDnsQueryResponse answer = await client.QueryAsync(name, QueryType.SRV, cancellationToken: cancelled);
            var records = new List<SrvRecord>();
            foreach (DnsResourceRecord record in answer.Answers)
            {
                if (record is SrvRecord srv)
                {
                    records.Add(srv);
                }
            }

            // The order of an answer is the server's mood; members must all see the same one.
            records.Sort(static (a, b) => a.Priority != b.Priority ? a.Priority.CompareTo(b.Priority)
                : string.CompareOrdinal(a.Target.Value, b.Target.Value) is var order and not 0 ? order
                : a.Port.CompareTo(b.Port));
            foreach (SrvRecord record in records)
            {
                targets.Add(new SrvTarget(scheme, record.Target.Value.TrimEnd('.'), record.Port));
            }

            return records.Count != 0 ? "" : "lookup " + name + ": " + (answer.HasError ? answer.ErrorMessage : "no such host");
        }
        catch (DnsResponseException e)
        {
            return "lookup " + name + ": " + e.Message;
        }
    }

    private static async ValueTask<bool> IsSamePlaceAsync(
        ListenUrl mine, SrvTarget target, NameResolver resolver, CancellationToken cancelled)
    {
        if (mine.Port != target.Port)
        {
            return false;
        }

        if (string.Equals(mine.Host, target.Host, StringComparison.OrdinalIgnoreCase))
        {
            return true;
        }

        IPAddress? there = await AddressAsync(target.Host, resolver, cancelled);
        IPAddress? here = await AddressAsync(mine.Host, resolver, cancelled);
        return there is not null && there.Equals(here);
    }

    private static async ValueTask<IPAddress?> AddressAsync(string host, NameResolver resolver, CancellationToken cancelled)
        => IPAddress.TryParse(host, out IPAddress? address) ? address : await resolver(host, cancelled);
}
